"""What an NVIDIA GPU tells in calls that no table of fields fits: several values in one, or one for each fan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.gpu import families, nvidia_fields
from exporter.gpu.asker import is_blank
from exporter.gpu.reading import Value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.gpu.asker import Asker
    from exporter.gpu.nvidia_session import Session


def utilization(asker: Asker) -> Iterator[Value]:
    """Yield both shares that one call gives."""
    rates = asker.call("nvmlDeviceGetUtilizationRates")
    if rates is not None:
        for family, percent in ((families.UTILIZATION, rates.gpu), (families.MEMORY_UTILIZATION, rates.memory)):
            yield Value(family, (), percent / 100 if percent <= 100 else None)  # noqa: PLR2004 - percent


def fans(asker: Asker) -> Iterator[Value]:
    """Yield each fan's speed, which may be above 1 (nvmlDeviceGetFanSpeed_v2); passive cards have none."""
    for fan in range(min(asker.call("nvmlDeviceGetNumFans") or 0, 16)):
        percent = asker.call("nvmlDeviceGetFanSpeed_v2", fan)
        if percent is not None and percent <= 200:  # noqa: PLR2004 - percent
            yield Value(families.FAN, (str(fan),), percent / 100)


def throttled(session: Session) -> Iterator[Value]:
    """Yield 0 or 1 for each reason that the GPU can give."""
    if session.throttle is None:
        return
    function, supported = session.throttle
    current = session.asker.call(function)
    if current is not None and not is_blank(current):
        for bit, reason in nvidia_fields.REASONS.items():
            if supported & bit:
                yield Value(families.THROTTLED, (reason,), float(bool(current & bit)))
