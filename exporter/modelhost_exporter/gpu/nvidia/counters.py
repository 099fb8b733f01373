"""Counters that are added up from samples and from counters that wrap."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAX_SAMPLE_SECONDS = 1.25  # nvmlDeviceGetUtilizationRates: between 1/6 s and 1 s, depending on the product
_WRAP = 2**32


class Integral:
    """The sum of samples: each value, times the time since the sample before.

    A GPU without work stops sampling, and samples may be lost. The first sample after such a gap counts for as long as
    the last one before the gap; the gap counts for nothing.
    """

    def __init__(self) -> None:
        self.total = 0.0
        self.newest = 0
        """Time of the newest sample so far, in µs of the driver's clock; 0 before the first."""
        self._period = 0.0

    def add(self, samples: Iterable[tuple[int, float]]) -> None:
        """Add samples (µs, value) in any order; those that were added before do not count again."""
        for when, value in sorted(samples):
            if when <= self.newest:
                continue
            seconds = (when - self.newest) / 1e6
            if self.newest and seconds <= _MAX_SAMPLE_SECONDS:
                self._period = seconds
            self.total += value * self._period
            self.newest = when

    def start_after(self, when: int) -> None:
        """Count only samples after ``when`` (µs); the total stays."""
        self.newest = when


class WrappingCounter:
    """A counter of bytes that may wrap at 4 GiB, added up from its first reading on."""

    def __init__(self) -> None:
        self.total: float | None = None
        self._last: float | None = None

    def expect_restart(self) -> None:
        """Expect the counter to start again; the total stays."""
        self._last = None

    def add(self, raw: float) -> None:
        """Add a reading. A step back is a wrap where the counter never exceeded 32 bits, else a restart."""
        last = raw if self._last is None else self._last
        step = raw - last
        if step < 0:
            step = step + _WRAP if last < _WRAP else raw
        self.total = (self.total or 0.0) + step
        self._last = raw
