"""The queries of an NVIDIA GPU, as tables: family, source of the value, unit and limits.

Field numbers are written out: three of them moved between two releases of driver 580, so that a number has the
meaning of the loaded driver, not of the installed nvidia-ml-py. Source: nvml.h and pynvml.py of 12.575, 13.580 and
13.615.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelhost_exporter.gpu import families
from modelhost_exporter.gpu.contract import Value
from modelhost_exporter.gpu.nvidia.query import DeviceQuery, NvmlCall, NvmlField, Way, is_blank

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from modelhost_exporter.metrics.families import Family


@dataclass(frozen=True)
class Measure:
    """One series: the ways to its raw value, best first, the raw value's unit, and its bounds in base units."""

    family: Family
    ways: tuple[Way, ...]
    unit: float = 1.0
    most: float | None = None
    labels: tuple[str, ...] = ()
    least: float = 0.0

    def read(self, query: DeviceQuery) -> Value | None:
        """Return the value; None when the device has none, or something else in its place."""
        return self.of(query.first(self.ways))

    def of(self, raw: float | None) -> Value | None:
        """Return the value that a raw one stands for."""
        if raw is None or is_blank(raw):
            return None
        number = raw * self.unit
        if number < self.least or (self.most is not None and number > self.most):
            return None
        return Value(self.family, self.labels, number)


_NUMBER = re.compile(r"\d{1,9}")
_MILLI, _MEGA, _NANO, _PERCENT, _KIBI = 1e-3, 1e6, 1e-9, 0.01, 1024.0
_MAX_WATTS, _MAX_HERTZ, _MAX_CELSIUS, _LEAST_CELSIUS = 1e5, 1e11, 250.0, -100.0
_DOMAINS = ("graphics", "sm", "memory", "video")  # nvmlClockType_t
_THRESHOLDS = ("shutdown", "slowdown", "memory_max", "gpu_max")  # nvmlTemperatureThresholds_t, the first four

# Asked in every scrape.
CURRENT = (
    Measure(families.ENCODER, (NvmlCall("nvmlDeviceGetEncoderUtilization", part=0),), _PERCENT, 1.0),
    Measure(families.DECODER, (NvmlCall("nvmlDeviceGetDecoderUtilization", part=0),), _PERCENT, 1.0),
    Measure(families.POWER, (NvmlCall("nvmlDeviceGetPowerUsage"),), _MILLI, _MAX_WATTS),
    Measure(families.POWER_LIMIT, (NvmlCall("nvmlDeviceGetEnforcedPowerLimit"),), _MILLI, _MAX_WATTS),
    Measure(
        families.TEMPERATURE,
        (NvmlCall("nvmlDeviceGetTemperatureV", (0,)), NvmlCall("nvmlDeviceGetTemperature", (0,))),
        most=_MAX_CELSIUS,
        labels=("gpu",),
        least=_LEAST_CELSIUS,
    ),
    # 0 is what cards without that sensor say
    Measure(families.TEMPERATURE, (NvmlField(82),), most=_MAX_CELSIUS, labels=("memory",), least=1.0),
    Measure(
        families.TEMPERATURE_MARGIN,
        (NvmlCall("nvmlDeviceGetMarginTemperature"),),
        most=_MAX_CELSIUS,
        least=_LEAST_CELSIUS,
    ),
    *(
        Measure(families.CLOCK, (NvmlCall("nvmlDeviceGetClockInfo", (number,)),), _MEGA, _MAX_HERTZ, (domain,))
        for number, domain in enumerate(_DOMAINS)
    ),
    Measure(families.PERFORMANCE_STATE, (NvmlCall("nvmlDeviceGetPerformanceState"),), most=15),
    Measure(families.PCIE_GENERATION, (NvmlCall("nvmlDeviceGetCurrPcieLinkGeneration"),), most=32, least=1),
    Measure(families.PCIE_WIDTH, (NvmlCall("nvmlDeviceGetCurrPcieLinkWidth"),), most=64, least=1),
    Measure(families.PCIE_REPLAYS, (NvmlField(94), NvmlCall("nvmlDeviceGetPcieReplayCounter"))),
    Measure(families.ECC_ENABLED, (NvmlField(1), NvmlCall("nvmlDeviceGetEccMode", part=0)), most=1),
    *(
        Measure(
            families.ECC_ERRORS_LIFETIME if lifetime else families.ECC_ERRORS,
            (NvmlField(number), NvmlCall("nvmlDeviceGetTotalEccErrors", (uncorrected, lifetime))),
            labels=("uncorrected" if uncorrected else "corrected",),
        )
        for number, uncorrected, lifetime in ((3, 0, 0), (4, 1, 0), (5, 0, 1), (6, 1, 1))
    ),
    *(
        Measure(family, (NvmlField(number), NvmlCall("nvmlDeviceGetRemappedRows", part=part)), labels=labels)
        for part, (number, family, labels) in enumerate(
            (
                (142, families.REMAPPED_ROWS, ("corrected",)),
                (143, families.REMAPPED_ROWS, ("uncorrected",)),
                (144, families.ROW_REMAP_PENDING, ()),
                (145, families.ROW_REMAP_FAILED, ()),
            )
        )
    ),
    Measure(families.RETIRED_PAGES, (NvmlField(29),), labels=("corrected",)),
    Measure(families.RETIRED_PAGES, (NvmlField(30),), labels=("uncorrected",)),
    Measure(
        families.RETIRED_PAGES_PENDING, (NvmlField(31), NvmlCall("nvmlDeviceGetRetiredPagesPendingStatus")), most=1
    ),
    Measure(families.RECOVERY_ACTION, (NvmlField(230),), most=255),
)

ENERGY = Measure(families.ENERGY, (NvmlCall("nvmlDeviceGetTotalEnergyConsumption"), NvmlField(83)), _MILLI)
PCIE_COUNTERS = (
    Measure(families.PCIE_TRANSMITTED, (NvmlField(197),)),
    Measure(families.PCIE_RECEIVED, (NvmlField(198),)),
)
NVLINKS = NvmlField(91)
_MAX_LINKS = 72

# Asked once for each time the driver is opened.
FIXED = (
    *(
        Measure(families.CLOCK_MAX, (NvmlCall("nvmlDeviceGetMaxClockInfo", (number,)),), _MEGA, _MAX_HERTZ, (domain,))
        for number, domain in enumerate(_DOMAINS)
    ),
    *(
        Measure(
            families.TEMPERATURE_LIMIT,
            (NvmlCall("nvmlDeviceGetTemperatureThreshold", (number,)),),
            most=_MAX_CELSIUS,
            labels=(kind,),
            least=1.0,
        )
        for number, kind in enumerate(_THRESHOLDS)
    ),
    Measure(families.PCIE_GENERATION_MAX, (NvmlCall("nvmlDeviceGetMaxPcieLinkGeneration"),), most=32, least=1),
    Measure(families.PCIE_WIDTH_MAX, (NvmlCall("nvmlDeviceGetMaxPcieLinkWidth"),), most=64, least=1),
)

# nvmlClocksEventReason…: bit → reason; 0x1, an idle GPU, holds nothing down
REASONS = {
    0x2: "applications_clocks",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal",
    0x40: "hw_thermal",
    0x80: "hw_power_brake",
    0x100: "display_clocks",
}
_MOVED = ("sw_thermal", "hw_thermal", "hw_power_brake")
_VIOLATION = "nvmlDeviceGetViolationStatus"


def _held(reason: str, *ways: Way) -> Measure:
    return Measure(families.THROTTLED_SECONDS, ways, _NANO, labels=(reason,))


def _violation(policy: int) -> NvmlCall:
    return NvmlCall(_VIOLATION, (policy,), "violationTime")


def throttle_counters(driver_version: str) -> tuple[Measure, ...]:
    """Return where a driver counts the time spent throttled: the numbers of three fields depend on its version."""
    numbers = _moved_fields(driver_version)
    moved = [_held(reason, NvmlField(number)) for reason, number in zip(_MOVED, numbers, strict=False)]
    return (
        _held("sw_power_cap", NvmlField(74), _violation(0)),
        _held("sync_boost", NvmlField(76), _violation(2)),
        _held("board_limit", NvmlField(77), _violation(3)),
        _held("reliability", NvmlField(79), _violation(5)),
        *(moved or [_held("thermal", NvmlField(75), _violation(1))]),  # older ones do not tell software from hardware
    )


def _moved_fields(driver_version: str) -> tuple[int, ...]:
    """Return the numbers of the three fields that moved, none for the releases between the two known ones."""
    version = tuple(int(part) for part in _NUMBER.findall(driver_version)[:2])
    if version >= (580, 82):
        return 269, 270, 271
    return (251, 252, 253) if (575,) <= version <= (580, 65) else ()


def nvlinks(query: DeviceQuery, count: int) -> tuple[Measure, ...]:
    """Return what to query of each NVLink. Data first, in KiB; else everything, in bytes."""
    directions = ((families.NVLINK_TRANSMITTED, 138, 202), (families.NVLINK_RECEIVED, 139, 204))
    return tuple(
        measure
        for link in range(count if count <= _MAX_LINKS else 0)
        for family, data, everything in directions
        for measure in _link(query, family, str(link), NvmlField(data, link), NvmlField(everything, link))
    )


def _link(query: DeviceQuery, family: Family, link: str, data: NvmlField, everything: NvmlField) -> Iterator[Measure]:
    """Yield the one of the two counters, which differ in unit, that this link has."""
    for field, unit in ((data, _KIBI), (everything, 1.0)):
        query.first((field,))
        if not query.lacks(field):
            yield Measure(family, (field,), unit, labels=(link,))
            return


class MeasureBatch:
    """Measures that are queried from one device repeatedly, each in the best way that the device supports."""

    def __init__(self, query: DeviceQuery, measures: Iterable[Measure]) -> None:
        self._query = query
        self._measures = tuple(measures)
        self._by_field: list[tuple[Measure, NvmlField]] = []
        self._by_call: list[tuple[Measure, NvmlCall]] = []
        self._found_out = -1

    def read(self) -> list[Value]:
        """Return the values that the device supports; all fields are queried in one call."""
        if self._found_out != self._query.found_out:
            self._choose()
        answers = self._query.fields([field for _, field in self._by_field])
        values = [measure.of(raw) for (measure, _), raw in zip(self._by_field, answers, strict=True)]
        values.extend(measure.of(self._query.part(call)) for measure, call in self._by_call)
        if self._found_out != self._query.found_out:  # some way turned out not to be one: there may be others
            asked: list[tuple[Measure, Way]] = [*self._by_field, *self._by_call]
            values.extend(measure.read(self._query) for measure, way in asked if self._query.lacks(way))
        return [value for value in values if value is not None]

    def _choose(self) -> None:
        ways = [(measure, self._query.best(measure.ways)) for measure in self._measures]
        self._by_field = [(measure, way) for measure, way in ways if isinstance(way, NvmlField)]
        self._by_call = [(measure, way) for measure, way in ways if isinstance(way, NvmlCall)]
        self._found_out = self._query.found_out
