"""Cost of a scrape: this exporter and node_exporter, scraped in turn on one machine as Prometheus does.

Run with ``python -m benchmarks.scrape``. Figures with a target are marked PASS or MISS; the exit code is 0 either way.
CPU time is user and system time of all threads of the process between the first and the last measured scrape, including
pauses.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import shutil
import statistics
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.measuring import (
    EXPORTER,
    Program,
    event_loop,
    exporter,
    free_port,
    listening,
    machine,
    percentile,
    ratio,
    table,
    verdict,
    version,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_NODE_EXPORTER_NAMES = ("prometheus-node-exporter", "node_exporter")  # Debian's and everyone else's
_TIMEOUT_SECONDS = 10
_HEADERS = {
    "Accept": "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "Accept-Encoding": "gzip",
    "X-Prometheus-Scrape-Timeout-Seconds": str(_TIMEOUT_SECONDS),
}
_OK = 200
_MAX_RESIDENT_MB = 55.0
_MAX_CPU_RATIO = 1.0


class Page(NamedTuple):
    """A scraped page, compressed and decompressed."""

    received: bytes
    plain: bytes

    def samples(self) -> int:
        """Count the lines that are samples."""
        return sum(1 for line in self.plain.splitlines() if line and not line.startswith(b"#"))


@dataclass
class Target:
    """A measured program, scraped over one persistent connection."""

    name: str
    program: Program
    seconds: list[float] = field(default_factory=list)
    page: Page = field(default_factory=lambda: Page(b"", b""))

    def __post_init__(self) -> None:
        self._connection = self.program.connect(_TIMEOUT_SECONDS)

    def scrape(self) -> None:
        """Scrape once; record the time until the whole page was received, and keep the page."""
        started = time.perf_counter()
        self._connection.request("GET", self.program.path, headers=_HEADERS)
        response = self._connection.getresponse()
        received = response.read()
        self.seconds.append(time.perf_counter() - started)
        if response.status != _OK:
            raise SystemExit(f"{self.name} answered {response.status}: {received[:200]!r}")
        zipped = response.getheader("Content-Encoding") == "gzip"
        self.page = Page(received, gzip.decompress(received) if zipped else received)

    def forget(self) -> None:
        """Discard the times of the warm-up, and start to measure CPU time."""
        self.seconds.clear()
        self._cpu_before = self.program.cpu_seconds()

    def figures(self) -> Figures:
        """Return the measurements since ``forget``."""
        cpu = self.program.cpu_seconds() - self._cpu_before
        samples = self.page.samples()
        return Figures(
            cpu_ms=cpu / len(self.seconds) * 1e3,
            cpu_us_per_sample=cpu / len(self.seconds) / samples * 1e6,
            median_ms=statistics.median(self.seconds) * 1e3,
            p99_ms=percentile(self.seconds, 99) * 1e3,
            resident_mb=self.program.resident_bytes() / 1e6,
            samples=samples,
            plain_bytes=len(self.page.plain),
            received_bytes=len(self.page.received),
        )


class Figures(NamedTuple):
    """The cost of one program's scrapes."""

    cpu_ms: float
    cpu_us_per_sample: float
    median_ms: float
    p99_ms: float
    resident_mb: float
    samples: int
    plain_bytes: int
    received_bytes: int


class Row(NamedTuple):
    """A line of the table: its figure, format, and target (None: no target)."""

    title: str
    of: Callable[[Figures], float]
    format: str
    reached: Callable[[Figures, Figures | None], bool | None] = lambda *_: None
    to_reach: str = ""

    def cells(self, ours: Figures, theirs: Figures | None) -> list[str]:
        """Return the line's cells."""
        reached = self.reached(ours, theirs)
        return [
            self.title,
            format(self.of(ours), self.format),
            format(self.of(theirs), self.format) if theirs else "",
            ratio(self.of(ours), self.of(theirs)) if theirs else "",
            f"{verdict(reached=reached)} ({self.to_reach})" if reached is not None else "",
        ]


_ROWS = (
    Row(
        "CPU per scrape, ms",
        lambda figures: figures.cpu_ms,
        ".2f",
        lambda ours, theirs: ours.cpu_ms <= theirs.cpu_ms * _MAX_CPU_RATIO if theirs else None,
        f"at most {_MAX_CPU_RATIO:g} of theirs",
    ),
    Row("CPU per sample, µs", lambda figures: figures.cpu_us_per_sample, ".2f"),
    Row("latency p50, ms", lambda figures: figures.median_ms, ".2f"),
    Row("latency p99, ms", lambda figures: figures.p99_ms, ".2f"),
    Row(
        "resident memory, MB",
        lambda figures: figures.resident_mb,
        ".1f",
        lambda ours, _: ours.resident_mb <= _MAX_RESIDENT_MB,
        f"at most {_MAX_RESIDENT_MB:g} MB",
    ),
    Row("samples per page", lambda figures: figures.samples, "d"),
    Row("page, bytes", lambda figures: figures.plain_bytes, "d"),
    Row("page with gzip, bytes", lambda figures: figures.received_bytes, "d"),
)


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    node_exporter = next(filter(None, map(shutil.which, _NODE_EXPORTER_NAMES)), None)
    with contextlib.ExitStack() as stack:
        targets = [Target("modelhost-exporter", stack.enter_context(exporter()))]
        print(f"{version(*EXPORTER)}, {event_loop()}")
        if node_exporter:
            port = free_port()
            command = [node_exporter, f"--web.listen-address=127.0.0.1:{port}"]
            targets.append(Target("node_exporter", stack.enter_context(listening(command, port))))
            print(version(node_exporter))
        else:
            print("node_exporter is not installed: only this exporter is measured")
        print(f"{machine()}\n{_how(arguments)}\n")
        for number in range(-arguments.warm_up, arguments.scrapes):
            if number == 0:
                _each(targets, Target.forget)
            _each(targets, Target.scrape, pause=arguments.interval)
        print(_report(targets))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--scrapes", type=partial(_at_least, 1), default=500, metavar="N", help="per program (default 500)"
    )
    parser.add_argument(
        "--warm-up", type=partial(_at_least, 0), default=50, metavar="N", help="scrapes not counted (default 50)"
    )
    parser.add_argument(
        "--interval", type=float, default=0.02, metavar="SECONDS", help="pause after each scrape (default 0.02)"
    )
    return parser.parse_args()


def _at_least(least: int, text: str) -> int:
    number = int(text)
    if number < least:
        raise argparse.ArgumentTypeError(f"must be at least {least}")
    return number


def _each(targets: Sequence[Target], action: Callable[[Target], None], pause: float = 0.0) -> None:
    for target in targets:
        action(target)
        time.sleep(pause)


def _how(arguments: argparse.Namespace) -> str:
    return (
        f"{arguments.scrapes} scrapes of each in turn after {arguments.warm_up} to warm up,"
        f" a pause of {arguments.interval:g} s after each, one connection each, gzip"
    )


def _report(targets: Sequence[Target]) -> str:
    ours, *others = [target.figures() for target in targets]
    theirs = others[0] if others else None
    heading = ["", targets[0].name, targets[1].name if theirs else "", "ours/theirs" if theirs else "", "to reach"]
    return table([heading, *(row.cells(ours, theirs) for row in _ROWS)])


if __name__ == "__main__":
    main()
