"""Collect reference cycles often, in pauses too short to be visible in a streamed response."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_THRESHOLD = 10_000  # Python's default, 700, costs a tenth of the time per request
_INTERVAL_SECONDS = 10.0
_MAX_PAUSE_SECONDS = 0.01
_MAX_DELAY_SECONDS = 600.0
_YOUNG, _ALL = 1, 2


def collect_less() -> None:
    """Raise the collector's threshold and exclude all existing objects, whose traversal takes 30 ms."""
    gc.freeze()
    gc.set_threshold(_THRESHOLD)


class Garbage:
    """Runs full collections on a timer while they are short or no request is in flight, else young ones only.

    asyncio leaves a cycle for each connection. Cycles that survive a young collection would wait for Python's own full
    collection, about one an hour in an almost idle process.
    """

    def __init__(
        self,
        is_idle: Callable[[], bool],
        collect: Callable[[int], object] = gc.collect,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._is_idle = is_idle
        self._collect = collect
        self._clock = clock
        self._pause = 0.0
        self._collected = clock()

    async def run(self, interval_seconds: float = _INTERVAL_SECONDS) -> None:
        """Collect until cancelled."""
        while True:
            await asyncio.sleep(interval_seconds)
            self.collect()

    def collect(self) -> None:
        """Collect once; when full collections take too long, delay them until idle, for at most ten minutes."""
        began = self._clock()
        overdue = began - self._collected >= _MAX_DELAY_SECONDS
        if self._pause > _MAX_PAUSE_SECONDS and not overdue and not self._is_idle():
            self._collect(_YOUNG)
            return
        self._collect(_ALL)
        self._collected = self._clock()
        self._pause = self._collected - began
