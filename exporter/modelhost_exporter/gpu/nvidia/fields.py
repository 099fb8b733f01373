"""The fields of an NVIDIA GPU: tables of measures, and functions for those that fit no table.

Field numbers are written out: three of them moved between two releases of driver 580, so that a number has the
meaning of the loaded driver, not of the installed nvidia-ml-py. Source: nvml.h and pynvml.py of 12.575, 13.580 and
13.615.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.gpu import families
from modelhost_exporter.gpu.contract import Value
from modelhost_exporter.gpu.nvidia.field_request import NvmlField
from modelhost_exporter.gpu.nvidia.measures import Measure
from modelhost_exporter.gpu.nvidia.query import NvmlCall

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelhost_exporter.gpu.nvidia.query import DeviceQuery

_MILLI, _MEGA, _PERCENT = 1e-3, 1e6, 0.01
_MAX_WATTS, _MAX_HERTZ, _MAX_CELSIUS, _MIN_CELSIUS = 1e5, 1e11, 250.0, -100.0
_MAX_FANS = 16
_DOMAINS = ("graphics", "sm", "memory", "video")  # nvmlClockType_t
_LIMITS = ("shutdown", "slowdown", "memory_max", "gpu_max")  # nvmlTemperatureThresholds_t, the first four

# Queried in every scrape.
CURRENT = (
    Measure(families.ENCODER, (NvmlCall("nvmlDeviceGetEncoderUtilization", part=0),), _PERCENT, 1.0),
    Measure(families.DECODER, (NvmlCall("nvmlDeviceGetDecoderUtilization", part=0),), _PERCENT, 1.0),
    Measure(families.POWER, (NvmlCall("nvmlDeviceGetPowerUsage"),), _MILLI, _MAX_WATTS),
    Measure(families.POWER_LIMIT, (NvmlCall("nvmlDeviceGetEnforcedPowerLimit"),), _MILLI, _MAX_WATTS),
    Measure(
        families.TEMPERATURE,
        (NvmlCall("nvmlDeviceGetTemperatureV", (0,)), NvmlCall("nvmlDeviceGetTemperature", (0,))),
        maximum=_MAX_CELSIUS,
        labels=("gpu",),
        minimum=_MIN_CELSIUS,
    ),
    # cards without this sensor return 0
    Measure(families.TEMPERATURE, (NvmlField(82),), maximum=_MAX_CELSIUS, labels=("memory",), minimum=1.0),
    Measure(
        families.TEMPERATURE_MARGIN,
        (NvmlCall("nvmlDeviceGetMarginTemperature"),),
        maximum=_MAX_CELSIUS,
        minimum=_MIN_CELSIUS,
    ),
    *(
        Measure(families.CLOCK, (NvmlCall("nvmlDeviceGetClockInfo", (number,)),), _MEGA, _MAX_HERTZ, (domain,))
        for number, domain in enumerate(_DOMAINS)
    ),
    Measure(families.PERFORMANCE_STATE, (NvmlCall("nvmlDeviceGetPerformanceState"),), maximum=15),
    Measure(families.PCIE_GENERATION, (NvmlCall("nvmlDeviceGetCurrPcieLinkGeneration"),), maximum=32, minimum=1),
    Measure(families.PCIE_WIDTH, (NvmlCall("nvmlDeviceGetCurrPcieLinkWidth"),), maximum=64, minimum=1),
    Measure(families.PCIE_REPLAYS, (NvmlField(94), NvmlCall("nvmlDeviceGetPcieReplayCounter"))),
    Measure(families.ECC_ENABLED, (NvmlField(1), NvmlCall("nvmlDeviceGetEccMode", part=0)), maximum=1),
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
        families.RETIRED_PAGES_PENDING, (NvmlField(31), NvmlCall("nvmlDeviceGetRetiredPagesPendingStatus")), maximum=1
    ),
    Measure(families.RECOVERY_ACTION, (NvmlField(230),), maximum=255),
)

ENERGY = Measure(families.ENERGY, (NvmlCall("nvmlDeviceGetTotalEnergyConsumption"), NvmlField(83)), _MILLI)
PCIE_COUNTERS = (
    Measure(families.PCIE_TRANSMITTED, (NvmlField(197),)),
    Measure(families.PCIE_RECEIVED, (NvmlField(198),)),
)

# Queried once each time the driver is opened.
FIXED = (
    *(
        Measure(families.CLOCK_MAX, (NvmlCall("nvmlDeviceGetMaxClockInfo", (number,)),), _MEGA, _MAX_HERTZ, (domain,))
        for number, domain in enumerate(_DOMAINS)
    ),
    *(
        Measure(
            families.TEMPERATURE_LIMIT,
            (NvmlCall("nvmlDeviceGetTemperatureThreshold", (number,)),),
            maximum=_MAX_CELSIUS,
            labels=(limit,),
            minimum=1.0,
        )
        for number, limit in enumerate(_LIMITS)
    ),
    Measure(families.PCIE_GENERATION_MAX, (NvmlCall("nvmlDeviceGetMaxPcieLinkGeneration"),), maximum=32, minimum=1),
    Measure(families.PCIE_WIDTH_MAX, (NvmlCall("nvmlDeviceGetMaxPcieLinkWidth"),), maximum=64, minimum=1),
)


def utilization(query: DeviceQuery) -> Iterator[Value]:
    """Yield both utilisations, which one call returns."""
    rates = query.call("nvmlDeviceGetUtilizationRates")
    if rates is not None:
        for family, percent in ((families.UTILIZATION, rates.gpu), (families.MEMORY_UTILIZATION, rates.memory)):
            yield Value(family, (), percent / 100 if percent <= 100 else None)  # noqa: PLR2004 - percent


def fans(query: DeviceQuery) -> Iterator[Value]:
    """Yield each fan's speed, which may exceed 1 (nvmlDeviceGetFanSpeed_v2); passive cards have no fan."""
    for fan in range(min(query.call("nvmlDeviceGetNumFans") or 0, _MAX_FANS)):
        percent = query.call("nvmlDeviceGetFanSpeed_v2", fan)
        if percent is not None and percent <= 200:  # noqa: PLR2004 - percent
            yield Value(families.FAN, (str(fan),), percent / 100)
