"""Delay of the chunks of many streams while a large page is scraped."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from typing import TYPE_CHECKING

from benchmarks import load
from benchmarks.loops import run
from benchmarks.measuring import Program, verdict
from benchmarks.proxy_ways import MODEL

if TYPE_CHECKING:
    from collections.abc import Sequence

_SCRAPES = 20
_STREAMS, _RATE = 64, 20.0
_SERIES = 5000
_MAX_MODELS = 64
_MAX_DELAY_MS = 1.0


def report(url: str, program: Program) -> str:
    """Return a line about the delay of chunks while a large page is scraped."""
    series = run(_make_series(url, program))
    with_scrape, without = run(_scrape_while_streaming(url, program))
    added = (statistics.median(with_scrape) - statistics.median(without)) * 1e3
    return (
        f"\nworst delay of a chunk among {_STREAMS} streams, median of {_SCRAPES}:"
        f" {statistics.median(with_scrape) * 1e3:.2f} ms while {series} series are scraped,"
        f" {statistics.median(without) * 1e3:.2f} ms otherwise: {added:.2f} ms more"
        f"  {verdict(reached=added <= _MAX_DELAY_MS)} (at most {_MAX_DELAY_MS:g} ms)"
    )


async def _make_series(url: str, program: Program) -> int:
    """Stream from one model after the other until the page has enough series; return their number."""
    series = 0
    for number in range(_MAX_MODELS):
        await load.streams(url, [load.question(url, f"model-{number}", 5, 1000.0)], 1000.0)
        series = sum(not line.startswith(b"#") for line in (await _scraped(program)).splitlines())
        if series >= _SERIES:
            break
    return series


async def _scrape_while_streaming(url: str, program: Program) -> tuple[list[float], list[float]]:
    """Return the largest delay of a chunk during each scrape, and during an equally long time before it."""
    chunks: list[load.Chunk] = []
    requests = [load.question(url, MODEL, int(_RATE * 60), _RATE)] * _STREAMS
    running = asyncio.ensure_future(load.streams(url, requests, _RATE, chunks))
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
    """Scrape as Prometheus does, but without decompression, whose CPU time would delay the load in this process."""
    parts = program.url.removeprefix("http://").partition("/")
    host, _, port = parts[0].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    writer.write(f"GET /{parts[2]} HTTP/1.0\r\nHost: {parts[0]}\r\nAccept: {accept}\r\n\r\n".encode())
    page = await reader.read()
    writer.close()
    return page
