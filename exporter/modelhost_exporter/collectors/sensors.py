"""Temperatures and fans of the machine's sensor chips."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import psutil

from modelhost_exporter.collector import (
    Collector,
    CollectorContext,
    CollectorOptions,
    SimulatedHost,
    Unavailable,
    parts,
)
from modelhost_exporter.linux import sensors as linux
from modelhost_exporter.metrics.families import gauge

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.metrics_core import Metric

    _Reading = tuple[tuple[str, str], float]

TEMPERATURE = gauge(
    "sensor_temperature_celsius",
    "Temperature of each sensor.",
    "chip",
    "sensor",
    note=(
        "Chips of one type (two NVMe drives) share their name: sensors with the same name are numbered "
        "in the kernel's order."
    ),
)
FAN = gauge("sensor_fan_rpm", "Speed of each fan in turns per minute.", "chip", "sensor")
FAMILIES = (TEMPERATURE, FAN)


# Plausible ranges; drivers report values outside them for inputs that are not connected.
_CELSIUS = -100.0, 1000.0
_RPM = 0.0, 200_000.0


class SensorsCollector:
    """Temperatures (Linux, FreeBSD) and fan speeds (Linux)."""

    def __init__(self, source: Any = psutil) -> None:
        self._source = source

    def collect(self) -> Iterator[Metric]:
        """Yield every sensor's reading; Unavailable on a machine or platform without sensors."""
        families = list(parts(self._temperatures, self._fans))
        if not families:
            raise Unavailable("no sensors found")
        yield from families

    def _temperatures(self) -> Iterable[Metric]:
        return TEMPERATURE.by(_within(_CELSIUS, _named(self._read("sensors_temperatures"), "temp")))

    def _fans(self) -> Iterable[Metric]:
        return FAN.by(_within(_RPM, _named(self._read("sensors_fans"), "fan")))

    def _read(self, function: str) -> dict[str, list[Any]]:
        read = getattr(self._source, function, None)
        return (read() or {}) if read else {}


def _within(limits: tuple[float, float], readings: Iterable[_Reading]) -> Iterator[_Reading]:
    minimum, maximum = limits
    return ((name, value) for name, value in readings if minimum <= value <= maximum)


def _named(chips: dict[str, list[Any]], kind: str) -> Iterator[_Reading]:
    """Yield ((chip, sensor), reading). Names are made unique: sensors without or with the same label are numbered."""
    for chip, sensors in chips.items():
        used: set[str] = set()
        for number, sensor in enumerate(sensors, start=1):
            name = sensor.label or f"{kind}{number}"
            while name in used:
                name = f"{name} {number}"
            used.add(name)
            yield (chip, name), sensor.current


def create(_options: CollectorOptions, context: CollectorContext) -> Collector:
    """Build the sensor collector."""
    return SensorsCollector(linux.Sensors(context.paths.sysfs) if sys.platform == "linux" else psutil)


def create_simulated(_options: CollectorOptions, _context: CollectorContext, host: SimulatedHost) -> Collector:
    """Build the collector for ``--demo``."""
    return SensorsCollector(host.psutil)
