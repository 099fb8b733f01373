"""The proxy's resident memory during many requests and one large body."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from benchmarks import load
from benchmarks.loops import run
from benchmarks.measuring import Program, verdict
from benchmarks.proxy_ways import CLIENTS, MODEL

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

_MAX_GROWTH_MB = {"requests": 4.0, "body": 16.0}


def report(url: str, program: Program, requests: int, body_bytes: int) -> Iterator[str]:
    """Yield lines about the resident memory during many requests and one large body."""
    run(load.requests(url, MODEL, CLIENTS, requests // 5))
    before = program.resident_bytes() / 1e6
    run(load.requests(url, MODEL, CLIENTS, requests))
    after = program.resident_bytes() / 1e6
    yield _memory_line(f"{requests} requests", before, after, _MAX_GROWTH_MB["requests"])
    peak = run(_peak_while(load.large_body(url, body_bytes), program)) / 1e6
    yield _memory_line(f"a body of {body_bytes >> 20} MiB, peak", after, peak, _MAX_GROWTH_MB["body"])


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
