"""Why the clocks of an NVIDIA GPU are held down, and for how long in all."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.gpu import families
from modelhost_exporter.gpu.contract import Value
from modelhost_exporter.gpu.nvidia.field_request import NvmlField
from modelhost_exporter.gpu.nvidia.measures import Measure
from modelhost_exporter.gpu.nvidia.query import NvmlCall, is_blank

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelhost_exporter.gpu.nvidia.query import DeviceQuery, ValueSource

# nvmlClocksEventReason…: bit → reason. 0x1 is left out: the low clocks of an idle GPU
_REASONS = {
    0x2: "applications_clocks",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal",
    0x40: "hw_thermal",
    0x80: "hw_power_brake",
    0x100: "display_clocks",
}
_NANO = 1e-9
_VERSION_PART = re.compile(r"\d{1,9}")
_MOVED_REASONS = ("sw_thermal", "hw_thermal", "hw_power_brake")


class ThrottleReasons(NamedTuple):
    """The function that returns the current reasons, and the bits of those that the GPU supports."""

    function: str
    supported: int

    def read(self, query: DeviceQuery) -> Iterator[Value]:
        """Yield 0 or 1 for each reason that the GPU supports."""
        current = query.call(self.function)
        if current is not None and not is_blank(current):
            for bit, reason in _REASONS.items():
                if self.supported & bit:
                    yield Value(families.THROTTLED, (reason,), float(bool(current & bit)))


def supported_reasons(query: DeviceQuery) -> ThrottleReasons | None:
    """Return what the GPU supports; None where it reports nothing, now or ever."""
    for word in ("Event", "Throttle"):  # renamed with driver 535
        supported = query.call(f"nvmlDeviceGetSupportedClocks{word}Reasons")
        if supported is not None:
            return ThrottleReasons(f"nvmlDeviceGetCurrentClocks{word}Reasons", supported)
    return None


def throttle_counters(driver_version: str) -> tuple[Measure, ...]:
    """Return the counters of throttled time; three of their field numbers depend on the driver's version."""
    numbers = _moved_fields(driver_version)
    moved = [_counter(reason, NvmlField(number)) for reason, number in zip(_MOVED_REASONS, numbers, strict=False)]
    return (
        _counter("sw_power_cap", NvmlField(74), _violation(0)),
        _counter("sync_boost", NvmlField(76), _violation(2)),
        _counter("board_limit", NvmlField(77), _violation(3)),
        _counter("reliability", NvmlField(79), _violation(5)),
        # older drivers count all thermal reasons together
        *(moved or [_counter("thermal", NvmlField(75), _violation(1))]),
    )


def _counter(reason: str, *sources: ValueSource) -> Measure:
    return Measure(families.THROTTLED_SECONDS, sources, _NANO, labels=(reason,))


def _violation(policy: int) -> NvmlCall:
    return NvmlCall("nvmlDeviceGetViolationStatus", (policy,), "violationTime")


def _moved_fields(driver_version: str) -> tuple[int, ...]:
    """Return the three field numbers that moved; none for releases between the two that are known."""
    version = tuple(int(part) for part in _VERSION_PART.findall(driver_version)[:2])
    if version >= (580, 82):
        return 269, 270, 271
    return (251, 252, 253) if (575,) <= version <= (580, 65) else ()
