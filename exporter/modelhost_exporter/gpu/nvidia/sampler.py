"""Counters from samples that the driver keeps for a few seconds only: busy time, energy and PCIe traffic."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from modelhost_exporter.gpu import families
from modelhost_exporter.gpu.contract import Value
from modelhost_exporter.gpu.nvidia.counters import Integral, WrappingCounter
from modelhost_exporter.gpu.nvidia.errors import NOT_FOUND, UNSUPPORTED, check
from modelhost_exporter.gpu.nvidia.fields import PCIE_COUNTERS
from modelhost_exporter.gpu.nvidia.query import DeviceQuery, NvmlCall, number_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from modelhost_exporter.gpu.nvidia.measures import MeasureBatch

_POWER, _UTILIZATION = 0, 1  # nvmlSamplingType_t
_MAX_WATTS = 1e5
_CHECK_CLOCK_SECONDS = 30.0


class Samples:
    """The sum of one GPU's samples of one type since the first reading; ``unit`` converts raw values to base units."""

    def __init__(self, type_: int, unit: float, maximum: float, clock: Callable[[], float]) -> None:
        self._type = type_
        self._call = NvmlCall("nvmlDeviceGetSamples", (type_,))
        self._unit = unit
        self._maximum = maximum
        self._clock = clock
        self._integral = Integral()
        self._last_samples_at = clock()
        self._was_reopened = False
        self._supported = True
        self.started = False
        """Whether there was a first reading."""

    @property
    def total(self) -> float | None:
        """The sum since the first reading; None before it, and while the device does not support samples."""
        return self._integral.total if self.started and self._supported else None

    def expect_restart(self) -> None:
        """Expect another driver, with other abilities and perhaps another clock; the total stays.

        Samples since the last reading that the driver still keeps count, unless its clock was set back.
        """
        self._was_reopened = True

    def read(self, query: DeviceQuery) -> bool:
        """Add new samples; return whether the query succeeded. Raises DeviceLost or NvmlFailure."""
        if query.is_unsupported(self._call):
            return False
        try:
            self._read(query)
        except query.lib.NVMLError as error:
            check(error)
            query.record_error(self._call, error.value)
            self._supported = error.value not in UNSUPPORTED
            return False
        query.record_success(self._call)
        self._supported = True
        return True

    def _read(self, query: DeviceQuery) -> None:
        if not self.started:  # samples from before the first reading do not count
            self._integral.start_after(self._newest(query))
            self.started = True
            return
        if self._was_reopened:
            self._was_reopened = False
            self._follow_clock(query)
        samples = self._since(query, self._integral.newest)
        if samples:
            self._last_samples_at = self._clock()
            self._integral.add(samples)
        elif self._clock() - self._last_samples_at > _CHECK_CLOCK_SECONDS:
            self._last_samples_at = self._clock()
            self._follow_clock(query)

    def _follow_clock(self, query: DeviceQuery) -> None:
        """Start after the newest sample if the driver's clock was set back: else no sample would count until then."""
        newest = self._newest(query)
        if newest < self._integral.newest:
            self._integral.start_after(newest)

    def _newest(self, query: DeviceQuery) -> int:
        return max((when for when, _ in self._since(query, 0)), default=0)

    def _since(self, query: DeviceQuery, when: int) -> list[tuple[int, float]]:
        """Return the samples after ``when`` (µs); the driver reports 'not found' where there are none."""
        lib = query.lib
        try:
            value_type, samples = lib.nvmlDeviceGetSamples(query.handle, self._type, when)
        except lib.NVMLError as error:
            if error.value == NOT_FOUND:
                return []
            raise
        raw = ((sample.timeStamp, number_of(value_type, bytes(sample.sampleValue))) for sample in samples)
        known = ((time, value * self._unit) for time, value in raw if time > when and value is not None)
        return [(time, value) for time, value in known if 0 <= value <= self._maximum]


class DriverSampler:
    """The counters of one GPU that are added up between scrapes; used by the sampling and the reading thread."""

    def __init__(self, clock: Callable[[], float], now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._was_reopened = False
        self._busy = Samples(_UTILIZATION, 0.01, 1.0, clock)
        self._busy_updated_at: float | None = None
        self._power = Samples(_POWER, 1e-3, _MAX_WATTS, clock)
        self._pcie = {measure.family: WrappingCounter() for measure in PCIE_COUNTERS}
        self.wants_power = False
        """Set where the card does not count its energy itself."""
        self.wants_pcie = False
        """Set where GPM does not report the PCIe traffic."""

    @property
    def has_power(self) -> bool:
        """Whether energy was added up from samples: another source would make the counter jump."""
        return self._power.started

    @property
    def has_pcie(self) -> bool:
        """Whether PCIe traffic was added up from the driver's counters: another source would make it jump."""
        return any(counter.total is not None for counter in self._pcie.values())

    def expect_restart(self) -> None:
        """Expect another driver; never blocks, even while a call into the old one hangs."""
        self._was_reopened = True

    def update(self, query: DeviceQuery, pcie: MeasureBatch) -> None:
        """Add what is new; do nothing while another thread does so. Raises DeviceLost or NvmlFailure."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._was_reopened:
                self._was_reopened = False
                self._restart_counters()
            query.begin_reading()
            query.review_unsupported()
            if self._busy.read(query):
                self._busy_updated_at = self._now()
            if self.wants_power:
                self._power.read(query)
            if self.wants_pcie:
                for value in pcie.read():
                    self._pcie[value.family].add(value.number or 0.0)
        finally:
            self._lock.release()

    def _restart_counters(self) -> None:
        self._busy.expect_restart()
        self._power.expect_restart()
        for counter in self._pcie.values():
            counter.expect_restart()

    def values(self) -> Iterator[Value]:
        """Yield the counters that this GPU supports."""
        if self._busy.total is not None:
            yield Value(families.BUSY, (), self._busy.total)
            yield Value(families.BUSY_UPDATED, (), self._busy_updated_at)
        if self.wants_power:
            yield Value(families.ENERGY, (), self._power.total)
        if self.wants_pcie:
            for family, counter in self._pcie.items():
                yield Value(family, (), counter.total)
