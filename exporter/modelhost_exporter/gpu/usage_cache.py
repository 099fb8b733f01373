"""The last reading of GPUs for the metrics of models: energy counters, and the memory of each process."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from modelhost_exporter.gpu.processes import ProcessMemory
    from modelhost_exporter.threads import Run

FRESH_SECONDS = 20.0
"""How old a reading may be. Scrapes that are more frequent make all the readings there are."""
_MAX_WAIT_SECONDS = 2.0


@dataclass(frozen=True)
class GpuUse:
    """One GPU at one moment: its energy counter (None: it has none), and the memory of its processes, in bytes."""

    energy_joules: float | None
    memory_by_pid: Mapping[int, float]


class GpuReading(NamedTuple):
    """All GPUs that answered and report memory by process, by UUID, and the time of the reading (monotonic)."""

    at: float
    gpus: Mapping[str, GpuUse]


class UsageCache:
    """Provide the last reading of the GPU collector; may be called by any number of threads.

    When it is too old, for lack of scrapes, the collector is run once as a scrape would run it: in its own thread,
    which a concurrent scrape shares. A driver that hangs holds up that thread, and costs the caller 2 s.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last: Callable[[], GpuReading | None] = _nothing
        self._read: Callable[[], Run[Any] | None] = _nothing

    def follow(self, last: Callable[[], GpuReading | None], read: Callable[[], Run[Any] | None]) -> None:
        """Take the collector that is in force from now on: what it read last, and what starts a new reading."""
        with self._lock:
            self._last, self._read = last, read

    def follow_none(self) -> None:
        """Report no GPUs: the collector is switched off."""
        self.follow(_nothing, _nothing)

    def __call__(self) -> Mapping[str, GpuUse]:
        """Return the GPUs by uuid; none of which is not known how it is now."""
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


def memory_by_pid(usages: Iterable[ProcessMemory] | None) -> dict[int, float] | None:
    """Return what each process holds; None where that is not known of all of them, or the GPU is divided (MIG)."""
    held: dict[int, float] = {}
    for usage in usages if usages is not None else ():
        if usage.memory is None or usage.instance is not None:
            return None
        held[usage.pid] = held.get(usage.pid, 0.0) + usage.memory
    return held if usages is not None else None
