"""Cost of the proxy: direct, nginx, a bare aiohttp proxy, this proxy, an older one and LiteLLM, at the same load.

Run with ``python -m benchmarks.proxy``. The ways are measured in turn, round after round, and each figure is the median
of its rounds. Figures with a target are marked PASS or MISS; the exit code is 0 either way.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import load, proxy_memory, proxy_scrape, proxy_ways
from benchmarks.loops import run
from benchmarks.measuring import EXPORTER, event_loop, machine, percentile, ratio, table, verdict, version
from benchmarks.proxy_ways import BARE, CLIENTS, MODEL, NGINX, OURS, Way

if TYPE_CHECKING:
    from collections.abc import Sequence


class Size(NamedTuple):
    """The amount of measurements."""

    rounds: int
    seconds: float
    streams: int
    stream_rounds: int
    frames: int
    rate: float
    requests: int
    body_bytes: int
    open_streams: int


_QUICK = Size(2, 1.0, 100, 1, 60, 20.0, 6_000, 64 << 20, 500)
_USUAL = Size(5, 2.0, 100, 3, 200, 20.0, 20_000, 256 << 20, 2000)
_FULL = _USUAL._replace(requests=200_000, body_bytes=1 << 30)


class Row(NamedTuple):
    """One line of the table; ``most`` or ``least`` is what ours over bare aiohttp's has to reach, and over nginx's."""

    figure: str
    format: str
    most: float | None = None
    least: float | None = None
    most_of_nginx: float | None = None

    def cells(self, ways: Sequence[Way]) -> list[str]:
        """Return the line's cells."""
        medians = {way.name: way.median(self.figure) for way in ways}
        ours, bare = medians[OURS], medians[BARE]
        compared = ours / bare if ours is not None and bare else None
        values = [format(value, self.format) if value is not None else "" for value in medians.values()]
        verdicts = [self._verdict(compared)]
        nginx = medians.get(NGINX)
        if self.most_of_nginx is not None and ours is not None and nginx:
            reached = verdict(reached=ours / nginx <= self.most_of_nginx)
            verdicts.append(f"{ratio(ours, nginx)} of nginx's: {reached} (at most {self.most_of_nginx:g})")
        return [self.figure, *values, ratio(ours, bare) if ours is not None else "", ", ".join(verdicts)]

    def _verdict(self, compared: float | None) -> str:
        if compared is None:
            return ""
        if self.most is not None:
            return f"{verdict(reached=compared <= self.most)} (at most {self.most:g} of bare aiohttp's)"
        if self.least is not None:
            return f"{verdict(reached=compared >= self.least)} (at least {self.least:g} of bare aiohttp's)"
        return ""


_LATENCY_50, _LATENCY_99 = "latency p50, ms", "latency p99, ms"
_ADDED_50, _ADDED_99 = "added latency p50, ms", "added latency p99, ms"
_RATE, _CPU_REQUEST, _CPU_CHUNK = "requests/s, 32 clients", "CPU per request, µs", "CPU per streamed chunk, µs"
_ROWS = (
    Row(_LATENCY_50, ".3f"),
    Row(_LATENCY_99, ".3f"),
    Row(_ADDED_50, ".3f", most=0.5),
    Row(_ADDED_99, ".3f", most=0.8),
    Row(_RATE, ".0f", least=2),
    Row(_CPU_REQUEST, ".0f", most=0.4),
    Row(_CPU_CHUNK, ".1f", most=0.65, most_of_nginx=2),
)


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    size = _QUICK if arguments.quick else _FULL if arguments.full else _USUAL
    with contextlib.ExitStack() as stack:
        if arguments.no_uvloop:
            _hide_uvloop(stack)
        ways = list(proxy_ways.start(stack, arguments.litellm, arguments.before))
        loop = "asyncio's event loop (uvloop hidden)" if arguments.no_uvloop else event_loop()
        print(f"{version(*EXPORTER)}, {loop}\n{machine()}\n{_how(size)}\n", flush=True)
        for number in range(size.rounds):
            for way in _rotated(ways, number):
                _measure(way, size)
            _compare_with_direct(ways)
        for number in range(size.stream_rounds):
            for way in _rotated(ways[1:], number):
                _measure_streams(way, size)
        heading = ["", *(way.name for way in ways), "ours/bare", "to reach"]
        print(table([heading, *(row.cells(ways) for row in _ROWS)]), flush=True)
        ours = next(way for way in ways if way.name == OURS)
        assert ours.program is not None  # noqa: S101 - it is the one that was started
        print(proxy_scrape.report(ours.url, ours.program))
        print(*proxy_memory.report(ours.url, ours.program, size.requests, size.body_bytes), sep="\n")
        print(proxy_memory.report_streams(ours.url, ours.program, size.open_streams))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="about a minute, less exact")
    parser.add_argument("--full", action="store_true", help="memory over 200,000 requests and one body of 1 GiB")
    parser.add_argument("--litellm", default=shutil.which("litellm"), metavar="PATH", help="default: the one on PATH")
    parser.add_argument("--before", metavar="PYTHON", help="Python of an older version's environment, to compare with")
    parser.add_argument("--no-uvloop", action="store_true", help="measure the Python programs without uvloop")
    return parser.parse_args()


def _how(size: Size) -> str:
    return (
        f"latency: one client; {size.rounds} rounds of {size.seconds:g} s each; streams: {size.stream_rounds} rounds of"
        f" {size.streams} x {size.frames} frames, {size.rate:g} a second; medians of the rounds"
    )


def _hide_uvloop(stack: contextlib.ExitStack) -> None:
    """Make uvloop fail to import in the measured programs."""
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    Path(folder, "uvloop.py").write_text('raise ImportError("hidden")\n', encoding="utf-8")
    os.environ["PYTHONPATH"] = folder


def _rotated(ways: Sequence[Way], number: int) -> list[Way]:
    """Return the compared ways, rotated so that each round starts with another one."""
    start = number % len(ways)
    return [*ways[start:], *ways[:start]]


def _measure(way: Way, size: Size) -> None:
    """Measure whole responses for one round."""
    run(load.latencies(way.url, MODEL, size.seconds / 10))
    seconds = run(load.latencies(way.url, MODEL, size.seconds))
    way.figures[_LATENCY_50].append(percentile(seconds, 50) * 1e3)
    way.figures[_LATENCY_99].append(percentile(seconds, 99) * 1e3)
    before = way.program.cpu_seconds() if way.program else 0.0
    began = time.perf_counter()
    rate = run(load.throughput(way.url, MODEL, CLIENTS, size.seconds))
    count = rate * (time.perf_counter() - began)
    way.figures[_RATE].append(rate)
    if way.program:
        way.figures[_CPU_REQUEST].append((way.program.cpu_seconds() - before) / count * 1e6)


def _compare_with_direct(ways: Sequence[Way]) -> None:
    """Record the latency that each way adds to the round's direct latency."""
    direct, *others = ways
    for way in others:
        for latency, added in ((_LATENCY_50, _ADDED_50), (_LATENCY_99, _ADDED_99)):
            way.figures[added].append(way.figures[latency][-1] - direct.figures[latency][-1])


def _measure_streams(way: Way, size: Size) -> None:
    """Measure the CPU time that a program spends on each forwarded frame."""
    if way.program is None:
        return
    requests = [load.question(way.url, MODEL, size.frames, size.rate)] * size.streams
    before = way.program.cpu_seconds()
    frames = run(load.streams(way.url, requests, size.rate))
    way.figures[_CPU_CHUNK].append((way.program.cpu_seconds() - before) / frames * 1e6)


if __name__ == "__main__":
    main()
