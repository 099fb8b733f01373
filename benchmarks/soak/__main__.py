"""Run the real exporter under load and faults, print what it uses each minute, and fail when something grows or stalls.

``make soak``, or ``python -m benchmarks.soak --minutes=3`` for a trial. Scrapes come five times a second; beside them
live viewers come and go, streams and failing requests pass the proxy, clients are slow, a model server and GPUs flap,
and the configuration is reloaded. Every minute ends in a quiet phase, in which resources are read: they are comparable.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import psutil

from benchmarks.measuring import (
    EXPORTER,
    ROOT,
    Program,
    event_loop,
    exporter,
    free_port,
    listening,
    machine,
    version,
)
from benchmarks.soak.clients import Plan
from benchmarks.soak.cycle import FAULTS, MEASURED, RELOADS, Cycles
from benchmarks.soak.gpus import FlappingGpus
from benchmarks.soak.report import Row, header, judge
from tests.faults.observed import ScrapeLoop
from tests.gpu.driver import compiled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_MINUTE = 60.0
_STOP_SECONDS = 10.0
_CONFIG = """
servers:
  - {{name: steady, url: "{upstream}", kind: openai, proxy: {{listen: "127.0.0.1:0"}}}}
  - name: flapping
    url: "http://127.0.0.1:{engine}"
    kind: vllm
    proxy: {{listen: "127.0.0.1:0", idle_timeout: 5s}}
    poll: {{timeout: {timeout}}}
"""


class Part(NamedTuple):
    """The actions of a cycle, with their times."""

    share: float
    act: Callable[[], None]


class Soak:
    """A running exporter, its clients and faults."""

    def __init__(self, program: Program, clients: subprocess.Popen[str], cycles: Cycles, gpus: FlappingGpus) -> None:
        self._program = program
        self._process = psutil.Process(program.pid)
        self._clients = clients
        self._cycles = cycles
        self._gpus = gpus
        self._loop = ScrapeLoop(urlsplit(program.url).netloc)
        self._errors = 0
        self.configure: Callable[[str], None] = lambda _timeout: None

    def close(self) -> None:
        """Stop the scrapes."""
        self._loop.close()

    def cycle(self, number: int) -> Row:
        """Run a cycle, numbered from 0, and return its measurements."""
        for share, act in sorted(self._parts(), key=lambda part: part.share):
            _sleep_until(self._cycles.moment(number, share))
            act()
        resources = list(self._resources(number))
        threads, descriptors, rss = (min(values) for values in zip(*resources, strict=True))
        line = (self._clients.stdout or sys.stdin).readline()
        if not line:
            raise SystemExit("the clients have ended")
        clients: dict[str, Any] = json.loads(line)
        scrapes = self._loop.take()
        return Row(
            cycle=number + 1,
            rss_bytes=rss,
            descriptors=descriptors,
            threads=threads,
            series=self._series(),
            scrapes=scrapes.count,
            slowest_scrape_seconds=scrapes.slowest_seconds,
            slowest_health_seconds=scrapes.slowest_health_seconds,
            gap_seconds=clients["gaps"]["proxied"],
            gap_ended=clients["gap_ended"],
            bypass_gap_seconds=clients["gaps"]["bypass"],
            problems=(*scrapes.problems, *clients["broken"], *self._new_errors()),
            seen=clients["counts"],
        )

    def _parts(self) -> Iterator[Part]:
        for number, window in enumerate(FAULTS):
            yield Part(window.begin, lambda number=number: self._gpus.show(number))  # type: ignore[misc]
        yield Part(FAULTS[-1].end, lambda: self._gpus.show(None))
        for share, timeout in zip(RELOADS, ("900ms", "1s"), strict=True):
            yield Part(share, lambda timeout=timeout: self._reload(timeout))  # type: ignore[misc]

    def _reload(self, timeout: str) -> None:
        self.configure(timeout)
        os.kill(self._program.pid, signal.SIGHUP)

    def _resources(self, number: int) -> Iterator[tuple[int, int, int]]:
        """Yield threads, descriptors and resident bytes several times, since a scrape may be in progress at one."""
        begin, end = (self._cycles.moment(number, share) for share in MEASURED)
        for step in range(10):
            _sleep_until(begin + (end - begin) * step / 10)
            yield self._process.num_threads(), self._process.num_fds(), self._process.memory_info().rss

    def _series(self) -> int:
        with contextlib.closing(self._program.connect(_STOP_SECONDS)) as connection:
            connection.request("GET", self._program.path)
            return sum(1 for line in connection.getresponse().read().splitlines() if line and not line.startswith(b"#"))

    def _new_errors(self) -> list[str]:
        """Return the lines of the log, since the last call, that are errors or have a traceback."""
        lines = [line for line in self._program.log().splitlines() if '"level": "error"' in line or "Traceback" in line]
        new, self._errors = lines[self._errors :], len(lines)
        return new


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the soak and print the results; return 0 when every figure meets its limit, else 1."""
    given = _arguments(arguments)
    print(f"{version(*EXPORTER)}, {event_loop()}\n{machine()}\n")
    rows = []
    print(header(), flush=True)
    for row in run(max(1, round(given.minutes * _MINUTE / given.cycle)), given.cycle):
        rows.append(row)
        print(row.line(), flush=True)
        if given.verbose:
            print(f"    {row.seen}, gap at {row.gap_ended:.2f}", *row.problems[:5], sep="\n    ", flush=True)
    figures = judge(rows)
    print("", *(figure.line() for figure in figures), sep="\n")
    return 0 if all(figure.reached for figure in figures) else 1


def run(cycles: int, cycle_seconds: float) -> Iterator[Row]:
    """Start all programs, and yield each cycle's row."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        gpus = FlappingGpus(folder / "script")
        engine, upstream = free_port(), free_port()
        stack.enter_context(listening((sys.executable, "-m", "benchmarks.upstream", str(upstream)), upstream))
        config = folder / "config.yaml"

        def configure(timeout: str) -> None:
            text = _CONFIG.format(upstream=f"http://127.0.0.1:{upstream}", engine=engine, timeout=timeout)
            config.write_text(text, encoding="utf-8")

        configure("1s")
        program = stack.enter_context(exporter(f"--config.file={config}", environment=_driver(folder)))
        timing = Cycles(time.monotonic() + 1, cycle_seconds)
        plan = Plan(
            web=program.url.removesuffix(program.path),
            upstream=f"http://127.0.0.1:{upstream}",
            engine_port=engine,
            began=timing.began,
            cycle_seconds=cycle_seconds,
            **_proxies(program),
        )
        soak = Soak(program, stack.enter_context(_clients(plan)), timing, gpus)
        soak.configure = configure
        stack.callback(soak.close)
        for number in range(cycles):
            yield soak.cycle(number)


def _driver(folder: Path) -> dict[str, str]:
    """Return the environment variables that select the stand-in for NVIDIA's driver; none without a compiler."""
    if not any(map(shutil.which, ("gcc", "cc"))):
        print("no C compiler: without GPUs")
        return {}
    return {"LD_LIBRARY_PATH": str(compiled(folder).parent), "STANDIN_SCRIPT": str(folder / "script")}


def _proxies(program: Program) -> dict[str, str]:
    """Return the URLs of the proxy's listeners, by the names that clients use."""
    entries = [json.loads(line) for line in program.log().splitlines() if '"msg": "proxying"' in line]
    urls = {entry["server"]: entry["url"] for entry in entries}
    return {"proxied": urls["steady"], "flapping": urls["flapping"]}


@contextlib.contextmanager
def _clients(plan: Plan) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "benchmarks.soak.clients", json.dumps(plan._asdict())]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20.0, help="how long (default %(default)g)")
    parser.add_argument(
        "--cycle", type=float, default=_MINUTE, metavar="SECONDS", help="of one row (default %(default)g)"
    )
    parser.add_argument(
        "--verbose", action="store_true", help="print what clients saw, and the problems of each minute"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
