"""The last reading of the GPUs, for the metrics of models: energy, and memory by process."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from modelhost_exporter.process.run import Run

FRESH_SECONDS = 20.0
"""The maximum age of a reading. Where scrapes are more frequent, they are the only readings."""
_MAX_WAIT_SECONDS = 2.0


@dataclass(frozen=True)
class GpuUse:
    """One GPU in one reading: its energy counter (None: it has none), and memory in bytes by process ID."""

    energy_joules: float | None
    memory_by_pid: Mapping[int, float]


class GpuReading(NamedTuple):
    """One reading: its time (monotonic), and by UUID the GPUs that could be read and report memory by process."""

    at: float
    gpus: Mapping[str, GpuUse]


class UsageCache:
    """The last reading of the GPU collector; may be called by any thread.

    When the reading is too old, for lack of scrapes, the collector runs once as in a scrape: in its own thread, and a
    concurrent scrape shares the run. A driver that hangs blocks that thread, and delays the caller by 2 s.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last: Callable[[], GpuReading | None] = _nothing
        self._read: Callable[[], Run[Any] | None] = _nothing

    def follow(self, last: Callable[[], GpuReading | None], read: Callable[[], Run[Any] | None]) -> None:
        """Use another collector from now on: ``last`` returns its last reading, ``read`` starts a new one."""
        with self._lock:
            self._last, self._read = last, read

    def follow_none(self) -> None:
        """Report no GPUs from now on: the collector is switched off."""
        self.follow(_nothing, _nothing)

    def __call__(self) -> Mapping[str, GpuUse]:
        """Return current usage by GPU UUID; GPUs without a fresh reading are omitted."""
        with self._lock:
            last, read = self._last, self._read
        if not self._is_fresh(last()) and (run := read()) is not None:
            run.wait(_MAX_WAIT_SECONDS)
        reading = last()
        return reading.gpus if reading is not None and self._is_fresh(reading) else {}

    def _is_fresh(self, reading: GpuReading | None) -> bool:
        return reading is not None and self._clock() - reading.at < FRESH_SECONDS


def _nothing() -> None:
    return None
