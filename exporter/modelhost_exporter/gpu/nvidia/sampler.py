"""What the driver forgets, read more often than it forgets it, and added up to counters."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from modelhost_exporter.gpu import families
from modelhost_exporter.gpu.contract import Value
from modelhost_exporter.gpu.nvidia import fields as nvidia_fields
from modelhost_exporter.gpu.nvidia.nvml import NOT_FOUND, UNSUPPORTED, check
from modelhost_exporter.gpu.nvidia.query import DeviceQuery, NvmlCall, number_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_POWER, _UTILIZATION = 0, 1  # nvmlSamplingType_t
_MAX_SAMPLE_SECONDS = 1.25  # nvmlDeviceGetUtilizationRates: between 1/6 s and 1 s, depending on the product
_SILENCE_SECONDS = 30.0
_MAX_WATTS = 1e5
_WRAP = 2**32


class Integral:
    """Adds up samples: each value, times the time since the sample before.

    A GPU without work stops sampling (the driver's buffer runs dry), and samples may be lost: the first one after a
    gap counts for as long as one before the gap did, and the gap for nothing.
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
        """Count only what comes after; the total stays."""
        self.newest = when


class Samples:
    """One kind of one GPU's samples, added up from the first reading on; ``unit`` makes raw values base units."""

    def __init__(self, kind: int, unit: float, most: float, clock: Callable[[], float]) -> None:
        self._kind = kind
        self._way = NvmlCall("nvmlDeviceGetSamples", (kind,))
        self._unit = unit
        self._most = most
        self._clock = clock
        self._integral = Integral()
        self._heard = clock()
        self._opened_anew = False
        self._supported = True
        self.begun = False

    @property
    def total(self) -> float | None:
        """The sum since the first reading; None where there is nothing to add up, and while it is not supported."""
        return self._integral.total if self.begun and self._supported else None

    def expect_restart(self) -> None:
        """Expect another driver, with other abilities and perhaps another clock; the total stays.

        What the driver's buffer holds since the last reading still counts, unless that clock was set back.
        """
        self._opened_anew = True

    def read(self, query: DeviceQuery) -> bool:
        """Add new samples; return whether there are any. Raises Lost or NvmlFailure when the GPU or it is gone."""
        if query.lacks(self._way):
            return False
        try:
            self._read(query)
        except query.lib.NVMLError as error:
            check(error)
            query.refused(self._way, error.value)
            self._supported = error.value not in UNSUPPORTED
            return False
        query.succeeded(self._way)
        self._supported = True
        return True

    def _read(self, query: DeviceQuery) -> None:
        if not self.begun:  # what the buffer holds from before is not ours
            self._integral.start_after(self._newest(query))
            self.begun = True
            return
        if self._opened_anew:
            self._opened_anew = False
            self._follow_clock(query)
        samples = self._since(query, self._integral.newest)
        if samples:
            self._heard = self._clock()
            self._integral.add(samples)
        elif self._clock() - self._heard > _SILENCE_SECONDS:
            self._heard = self._clock()
            self._follow_clock(query)

    def _follow_clock(self, query: DeviceQuery) -> None:
        """Start after the newest sample if the driver's clock was set back: it would be silent until it caught up."""
        newest = self._newest(query)
        if newest < self._integral.newest:
            self._integral.start_after(newest)

    def _newest(self, query: DeviceQuery) -> int:
        return max((when for when, _ in self._since(query, 0)), default=0)

    def _since(self, query: DeviceQuery, when: int) -> list[tuple[int, float]]:
        """Return the samples after a time; none is an error (not found) to the driver."""
        lib = query.lib
        try:
            kind, samples = lib.nvmlDeviceGetSamples(query.handle, self._kind, when)
        except lib.NVMLError as error:
            if error.value == NOT_FOUND:
                return []
            raise
        raw = ((sample.timeStamp, number_of(kind, bytes(sample.sampleValue))) for sample in samples)
        known = ((time, value * self._unit) for time, value in raw if time > when and value is not None)
        return [(time, value) for time, value in known if 0 <= value <= self._most]


class WrappingCounter:
    """A counter of bytes that may wrap at 4 GiB, added up from its first reading on."""

    def __init__(self) -> None:
        self.total: float | None = None
        self._last: float | None = None

    def expect_restart(self) -> None:
        """Expect the counter to start again; the total stays."""
        self._last = None

    def add(self, raw: float) -> None:
        """Take a reading; a step back is a wrap for one that never went beyond 32 bits, else a new start."""
        last = raw if self._last is None else self._last
        step = raw - last
        if step < 0:
            step = step + _WRAP if last < _WRAP else raw
        self.total = (self.total or 0.0) + step
        self._last = raw


class DriverSampler:
    """What is added up for one GPU. Called by the thread that samples and by the one that reads."""

    def __init__(self, clock: Callable[[], float], now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._opened_anew = False
        self._busy = Samples(_UTILIZATION, 0.01, 1.0, clock)
        self._busy_read_at: float | None = None
        self._power = Samples(_POWER, 1e-3, _MAX_WATTS, clock)
        self._pcie = {measure.family: WrappingCounter() for measure in nvidia_fields.PCIE_COUNTERS}
        self.wants_power = False
        """Set where the card does not count its energy itself."""
        self.wants_pcie = False
        """Set where performance monitoring does not report the PCIe traffic."""

    @property
    def has_power(self) -> bool:
        """Whether energy was added up from samples: a counter that begins elsewhere would jump."""
        return self._power.begun

    @property
    def has_pcie(self) -> bool:
        """Whether the driver's counters of the PCIe traffic were added up: likewise."""
        return any(counter.total is not None for counter in self._pcie.values())

    def expect_restart(self) -> None:
        """Expect another driver; never blocks, also while a call into the old one does not return."""
        self._opened_anew = True

    def update(self, query: DeviceQuery, pcie: nvidia_fields.MeasureBatch) -> None:
        """Add what is new; nothing while another thread does so. Raises Lost or NvmlFailure."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._opened_anew:
                self._opened_anew = False
                self._expect_another_driver()
            query.begin_reading()
            if query.is_review_due():
                query.forget_refusals()
            if self._busy.read(query):
                self._busy_read_at = self._now()
            if self.wants_power:
                self._power.read(query)
            if self.wants_pcie:
                for value in pcie.read():
                    self._pcie[value.family].add(value.number or 0.0)
        finally:
            self._lock.release()

    def _expect_another_driver(self) -> None:
        self._busy.expect_restart()
        self._power.expect_restart()
        for counter in self._pcie.values():
            counter.expect_restart()

    def values(self) -> Iterator[Value]:
        """Yield the counters, as far as this GPU has something to add up."""
        if self._busy.total is not None:
            yield Value(families.BUSY, (), self._busy.total)
            yield Value(families.BUSY_UPDATED, (), self._busy_read_at)
        if self.wants_power:
            yield Value(families.ENERGY, (), self._power.total)
        if self.wants_pcie:
            for family, counter in self._pcie.items():
                yield Value(family, (), counter.total)
