"""What the proxy costs: direct, nginx, a bare aiohttp pass-through, this proxy and LiteLLM, one upstream, one load.

Run with ``python -m benchmarks.proxy``. The ways are measured in turn, round after round, and each figure is the median
of its rounds. Figures that are to be reached are marked PASS or MISS; the exit code is 0 either way.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from benchmarks import load
from benchmarks.loops import loop_factory
from benchmarks.measuring import (
    EXPORTER,
    CannotStart,
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
    from collections.abc import Coroutine, Iterator, Sequence

T = TypeVar("T")

_DIRECT, _NGINX, _BARE, _OURS, _LITELLM = "direct", "nginx", "bare aiohttp", "this proxy", "LiteLLM"
_MODEL = "bench"
_CLIENTS = 32
_LITELLM_START_SECONDS = 120.0
_SCRAPES = 20
_SCRAPE_STREAMS, _SCRAPE_RATE = 64, 20.0
_SCRAPE_SERIES = 5000
_MOST_MODELS = 64

_NGINX_CONFIG = """
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr;
events {{ worker_connections 2048; }}
http {{
  access_log off;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  keepalive_requests 1000000000;
  upstream model_server {{ server {upstream}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    client_max_body_size 0;
    location / {{
      proxy_pass http://model_server;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_request_buffering off;
    }}
  }}
}}
"""
_LITELLM_CONFIG = """
model_list:
  - model_name: {model}
    litellm_params: {{ model: openai/{model}, api_base: "{upstream}/v1", api_key: none }}
"""


@dataclass
class Way:
    """One way to the upstream, and what was measured on it, by figure."""

    name: str
    url: str
    program: Program | None = None
    figures: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def median(self, figure: str) -> float | None:
        """Return the median of a figure's rounds; None where it was not taken."""
        values = self.figures.get(figure)
        return statistics.median(values) if values else None


class Size(NamedTuple):
    """How much is measured."""

    rounds: int
    seconds: float
    streams: int
    stream_rounds: int
    frames: int
    rate: float
    requests: int
    body_bytes: int


_QUICK = Size(2, 1.0, 100, 1, 60, 20.0, 6_000, 64 << 20)
_USUAL = Size(5, 2.0, 100, 3, 200, 20.0, 20_000, 256 << 20)
_FULL = _USUAL._replace(requests=100_000, body_bytes=1 << 30)


class Row(NamedTuple):
    """One line of the table; ``most`` or ``least`` is what ours over bare aiohttp's has to reach."""

    figure: str
    format: str
    most: float | None = None
    least: float | None = None

    def cells(self, ways: Sequence[Way]) -> list[str]:
        """Return the line's cells."""
        medians = {way.name: way.median(self.figure) for way in ways}
        ours, bare = medians[_OURS], medians[_BARE]
        compared = ours / bare if ours is not None and bare else None
        values = [format(value, self.format) if value is not None else "" for value in medians.values()]
        return [self.figure, *values, ratio(ours, bare) if ours is not None else "", self._verdict(compared)]

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
    Row(_ADDED_50, ".3f", most=1.25),
    Row(_ADDED_99, ".3f"),
    Row(_RATE, ".0f", least=0.8),
    Row(_CPU_REQUEST, ".0f"),
    Row(_CPU_CHUNK, ".1f", most=1.3),
)
_MOST_SCRAPE_DELAY_MS = 5.0
_MOST_GROWTH_MB = {"requests": 4.0, "body": 16.0}


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    size = _QUICK if arguments.quick else _FULL if arguments.full else _USUAL
    with contextlib.ExitStack() as stack:
        if arguments.no_uvloop:
            _hide_uvloop(stack)
        ways = list(_ways(stack, arguments.litellm))
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
        ours = next(way for way in ways if way.name == _OURS)
        print(_scrape_report(ours), *_memory_report(ours, size), sep="\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="about a minute, less exact")
    parser.add_argument("--full", action="store_true", help="memory over 100,000 requests and one body of 1 GB")
    parser.add_argument("--litellm", default=shutil.which("litellm"), metavar="PATH", help="default: the one on PATH")
    parser.add_argument("--no-uvloop", action="store_true", help="measure the Python programs without uvloop")
    return parser.parse_args()


def _how(size: Size) -> str:
    return (
        f"latency: one client; {size.rounds} rounds of {size.seconds:g} s each; streams: {size.stream_rounds} rounds of"
        f" {size.streams} x {size.frames} frames, {size.rate:g} a second; medians of the rounds"
    )


def _hide_uvloop(stack: contextlib.ExitStack) -> None:
    """Let the programs find a uvloop that cannot be imported."""
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    Path(folder, "uvloop.py").write_text('raise ImportError("hidden")\n', encoding="utf-8")
    os.environ["PYTHONPATH"] = folder


def _ways(stack: contextlib.ExitStack, litellm: str | None) -> Iterator[Way]:
    """Start everything that is installed."""
    port = free_port()
    stack.enter_context(listening([sys.executable, "-m", "benchmarks.upstream", str(port)], port))
    upstream = f"127.0.0.1:{port}"
    yield Way(_DIRECT, f"http://{upstream}")
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    nginx = shutil.which("nginx", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin")))
    if nginx is None:
        print("nginx is not installed: left out")
    else:
        yield _nginx(stack, nginx, folder, upstream)
    port = free_port()
    bare = listening([sys.executable, "-m", "benchmarks.bare", str(port), f"http://{upstream}"], port, path="")
    program = stack.enter_context(bare)
    yield Way(_BARE, program.url, program)
    program = stack.enter_context(exporter(f"--proxy.server=bench=127.0.0.1:0=http://{upstream}"))
    yield Way(_OURS, program.logged("proxying")["url"], program)
    if litellm is None:
        print("LiteLLM is not installed (--litellm=PATH): left out")
    else:
        try:
            yield _litellm(stack, litellm, folder, upstream)
        except CannotStart as error:
            print(f"LiteLLM does not start, left out: {str(error)[-300:]}")


def _nginx(stack: contextlib.ExitStack, nginx: str, folder: Path, upstream: str) -> Way:
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(_NGINX_CONFIG.format(folder=folder, upstream=upstream, port=port), encoding="utf-8")
    program = stack.enter_context(
        listening([nginx, "-p", str(folder), "-e", "stderr", "-c", str(config)], port, path="")
    )
    return Way(_NGINX, program.url, program)


def _litellm(stack: contextlib.ExitStack, litellm: str, folder: Path, upstream: str) -> Way:
    port = free_port()
    config = folder / "litellm.yaml"
    config.write_text(_LITELLM_CONFIG.format(model=_MODEL, upstream=f"http://{upstream}"), encoding="utf-8")
    # no price list from the internet, no key, and its own choice of event loop
    settings = ("LITELLM_LOCAL_MODEL_COST_MAP=True", "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY=true")
    command = ["env", "--unset=PYTHONPATH", *settings, litellm]
    command += ["--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    program = stack.enter_context(listening(command, port, path="", start_seconds=_LITELLM_START_SECONDS))
    _run(load.latencies(program.url, _MODEL, 5.0))  # its first requests are slow
    return Way(_LITELLM, program.url, program)


def _rotated(ways: Sequence[Way], number: int) -> list[Way]:
    """Return the ways so that each round begins with another one."""
    start = number % len(ways)
    return [*ways[start:], *ways[:start]]


def _run(work: Coroutine[None, None, T]) -> T:
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(work)


def _measure(way: Way, size: Size) -> None:
    """Take one round's figures of whole replies."""
    _run(load.latencies(way.url, _MODEL, size.seconds / 10))
    seconds = _run(load.latencies(way.url, _MODEL, size.seconds))
    way.figures[_LATENCY_50].append(percentile(seconds, 50) * 1e3)
    way.figures[_LATENCY_99].append(percentile(seconds, 99) * 1e3)
    before = way.program.cpu_seconds() if way.program else 0.0
    began = time.perf_counter()
    rate = _run(load.throughput(way.url, _MODEL, _CLIENTS, size.seconds))
    count = rate * (time.perf_counter() - began)
    way.figures[_RATE].append(rate)
    if way.program:
        way.figures[_CPU_REQUEST].append((way.program.cpu_seconds() - before) / count * 1e6)


def _compare_with_direct(ways: Sequence[Way]) -> None:
    """Note what each way adds to the round's direct latency."""
    direct, *others = ways
    for way in others:
        for latency, added in ((_LATENCY_50, _ADDED_50), (_LATENCY_99, _ADDED_99)):
            way.figures[added].append(way.figures[latency][-1] - direct.figures[latency][-1])


def _measure_streams(way: Way, size: Size) -> None:
    """Take the CPU time that a program spends on a frame that it passes on."""
    if way.program is None:
        return
    requests = [load.question(way.url, _MODEL, size.frames, size.rate)] * size.streams
    before = way.program.cpu_seconds()
    frames = _run(load.streams(way.url, requests, size.rate))
    way.figures[_CPU_CHUNK].append((way.program.cpu_seconds() - before) / frames * 1e6)


def _scrape_report(ours: Way) -> str:
    """Return a line: how much later chunks come while a large page is scraped."""
    program = ours.program
    assert program is not None  # noqa: S101 - it is the one that was started
    series = _run(_make_series(ours.url, program))
    with_scrape, without = _run(_scrape_while_streaming(ours.url, program))
    added = (statistics.median(with_scrape) - statistics.median(without)) * 1e3
    return (
        f"\nworst delay of a chunk among {_SCRAPE_STREAMS} streams, median of {_SCRAPES}:"
        f" {statistics.median(with_scrape) * 1e3:.2f} ms while {series} series are scraped,"
        f" {statistics.median(without) * 1e3:.2f} ms otherwise: {added:.2f} ms more"
        f"  {verdict(reached=added <= _MOST_SCRAPE_DELAY_MS)} (at most {_MOST_SCRAPE_DELAY_MS:g} ms)"
    )


async def _make_series(url: str, program: Program) -> int:
    """Stream from one model after the other until the page has enough series; return how many it has."""
    series = 0
    for number in range(_MOST_MODELS):
        await load.streams(url, [load.question(url, f"model-{number}", 5, 1000.0)], 1000.0)
        series = sum(not line.startswith(b"#") for line in (await _scraped(program)).splitlines())
        if series >= _SCRAPE_SERIES:
            break
    return series


async def _scrape_while_streaming(url: str, program: Program) -> tuple[list[float], list[float]]:
    """Return the worst delay of a chunk in every scrape, and in as long a time before each without one."""
    chunks: list[load.Chunk] = []
    requests = [load.question(url, _MODEL, int(_SCRAPE_RATE * 60), _SCRAPE_RATE)] * _SCRAPE_STREAMS
    running = asyncio.ensure_future(load.streams(url, requests, _SCRAPE_RATE, chunks))
    await asyncio.sleep(1.0)
    quiet, busy = [], []
    lasted = 0.1
    for _ in range(_SCRAPES):
        began = time.monotonic()
        await asyncio.sleep(lasted)
        quiet.append((began, time.monotonic()))
        began = time.monotonic()
        await _scraped(program)
        busy.append((began, time.monotonic()))
        lasted = busy[-1][1] - began
        await asyncio.sleep(0.1)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    return [_worst(chunks, *window) for window in busy], [_worst(chunks, *window) for window in quiet]


def _worst(chunks: Sequence[load.Chunk], start: float, end: float) -> float:
    return max((chunk.arrived - chunk.sent for chunk in chunks if start <= chunk.sent <= end), default=0.0)


async def _scraped(program: Program) -> bytes:
    """Scrape as Prometheus does, but for gzip's CPU time in this process: the load runs in it."""
    parts = program.url.removeprefix("http://").partition("/")
    host, _, port = parts[0].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    writer.write(f"GET /{parts[2]} HTTP/1.0\r\nHost: {parts[0]}\r\nAccept: {accept}\r\n\r\n".encode())
    page = await reader.read()
    writer.close()
    return page


def _memory_report(ours: Way, size: Size) -> Iterator[str]:
    """Yield lines: what becomes of the resident memory over many requests and over one large body."""
    program = ours.program
    assert program is not None  # noqa: S101 - it is the one that was started
    _run(load.requests(ours.url, _MODEL, _CLIENTS, size.requests // 5))
    before = program.resident_bytes() / 1e6
    _run(load.requests(ours.url, _MODEL, _CLIENTS, size.requests))
    after = program.resident_bytes() / 1e6
    yield _memory_line(f"{size.requests} requests", before, after, _MOST_GROWTH_MB["requests"])
    peak = _run(_peak_while(load.large_body(ours.url, size.body_bytes), program)) / 1e6
    yield _memory_line(f"a body of {size.body_bytes >> 20} MiB, peak", after, peak, _MOST_GROWTH_MB["body"])


def _memory_line(what: str, before: float, after: float, most: float) -> str:
    mark = verdict(reached=after - before <= most)
    return f"resident memory over {what}: {before:.1f} MB, then {after:.1f} MB  {mark} (at most {most:g} MB more)"


async def _peak_while(work: Coroutine[None, None, None], program: Program) -> float:
    """Return the most memory that is resident while something is done."""
    task = asyncio.ensure_future(work)
    peak = 0
    while not task.done():
        peak = max(peak, program.resident_bytes())
        await asyncio.sleep(0.01)
    await task
    return peak


if __name__ == "__main__":
    main()
