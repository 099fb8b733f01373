"""Temperatures and fans of the machine's sensor chips."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psutil

from exporter.collectors import Collector, Options, Paths, Unavailable
from exporter.families import gauge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

__all__ = ["FAMILIES", "Options", "Sensors", "create"]

TEMPERATURE = gauge(
    "temperature_celsius",
    "Temperature of each sensor. Several chips of one kind (two NVMe drives) share the chip's name: their sensors are"
    " numbered in the kernel's order.",
    "chip",
    "sensor",
)
FAN = gauge("fan_rpm", "Speed of each fan in turns per minute.", "chip", "sensor")
FAMILIES = (TEMPERATURE, FAN)


class Sensors:
    """Temperatures and fan speeds (psutil; Linux, and FreeBSD for temperatures)."""

    def __init__(self, source: Any = psutil) -> None:
        self._source = source

    def collect(self) -> Iterator[Metric]:
        """Yield every sensor's reading; Unavailable on a machine (or platform) without sensors."""
        families = [
            *TEMPERATURE.by(_named(self._read("sensors_temperatures"), "temp")),
            *FAN.by(_named(self._read("sensors_fans"), "fan")),
        ]
        if not families:
            raise Unavailable("no sensors found")
        yield from families

    def _read(self, function: str) -> dict[str, list[Any]]:
        read = getattr(self._source, function, None)
        return (read() or {}) if read else {}


def _named(chips: dict[str, list[Any]], kind: str) -> Iterator[tuple[tuple[str, str], float]]:
    """Yield ((chip, sensor), reading), every name once: unlabelled and repeated sensors are numbered."""
    for chip, sensors in chips.items():
        taken: set[str] = set()
        for number, sensor in enumerate(sensors, start=1):
            name = sensor.label or f"{kind}{number}"
            while name in taken:
                name = f"{name} {number}"
            taken.add(name)
            yield (chip, name), sensor.current


def create(_options: Options, _paths: Paths) -> Collector:
    """Build the sensor collector."""
    return Sensors()
