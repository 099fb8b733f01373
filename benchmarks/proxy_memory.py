"""The proxy's resident memory during many requests, one large body and many streams."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from benchmarks import load
from benchmarks.loops import run
from benchmarks.measuring import Program, verdict
from benchmarks.proxy_ways import CLIENTS, MODEL

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence

_MAX_GROWTH_MB = {"requests": 4.0, "body": 16.0}
_MAX_STREAM_KB = 40.0
_STREAM_FRAMES, _STREAM_RATE = 10, 1.0


def report(url: str, program: Program, requests: int, body_bytes: int) -> Iterator[str]:
    """Yield lines about the resident memory during many requests and one large body."""
    run(load.requests(url, MODEL, CLIENTS, requests // 5))
    before = program.resident_bytes() / 1e6
    run(load.requests(url, MODEL, CLIENTS, requests))
    after = program.resident_bytes() / 1e6
    yield _memory_line(f"{requests} requests", before, after, _MAX_GROWTH_MB["requests"])
    peak = run(_peak_while(load.large_body(url, body_bytes), program)) / 1e6
    yield _memory_line(f"a body of {body_bytes >> 20} MiB, peak", after, peak, _MAX_GROWTH_MB["body"])


def report_streams(url: str, program: Program, streams: int) -> str:
    """Return a line about the resident memory that many open streams take, each with a connection on both sides."""
    before = program.resident_bytes()
    requests = [load.question(url, MODEL, _STREAM_FRAMES, _STREAM_RATE)] * streams
    peak = run(_peak_while(_streams(url, requests), program))
    each = (peak - before) / streams / 1e3
    mark = verdict(reached=each <= _MAX_STREAM_KB)
    return f"resident memory of {streams} open streams: {each:.1f} kB each  {mark} (at most {_MAX_STREAM_KB:g} kB)"


async def _streams(url: str, requests: Sequence[bytes]) -> None:
    await load.streams(url, requests, _STREAM_RATE)


def _memory_line(what: str, before: float, after: float, most: float) -> str:
    mark = verdict(reached=after - before <= most)
    return f"resident memory over {what}: {before:.1f} MB, then {after:.1f} MB  {mark} (at most {most:g} MB more)"


async def _peak_while(work: Coroutine[None, None, None], program: Program) -> float:
    """Return the highest resident memory while a coroutine runs."""
    task = asyncio.ensure_future(work)
    peak = 0
    while not task.done():
        peak = max(peak, program.resident_bytes())
        await asyncio.sleep(0.01)
    await task
    return peak
