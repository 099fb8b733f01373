"""Temperatures and fans from /sys/class/hwmon, or temperatures from /sys/class/thermal where hwmon has none."""

from __future__ import annotations

from functools import partial
from math import nan
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.linux.kernel_files import read, read_if_possible, whole_number
from modelhost_exporter.parallel_reads import ParallelReads

if TYPE_CHECKING:
    from pathlib import Path

_SLOW_SECONDS = 0.5
_WAIT_SECONDS = 1.0
_MILLIDEGREES = 1000.0


class Sensor(NamedTuple):
    """One sensor, under psutil's names."""

    label: str
    current: float


class _Chip(NamedTuple):
    """The name of a chip, and its sensors of one kind."""

    name: str
    sensors: list[Sensor]


class Sensors:
    """The sensor chips below the given /sys.

    A chip on a slow bus takes tenths of a second for each sensor, and a broken one never returns: each chip is read in
    a thread, and one that does not return in time costs only its own sensors. Sensors that cannot be read are NaN, so
    that those after them keep their numbers.
    """

    def __init__(self, sysfs: Path) -> None:
        self._hwmon = sysfs / "class/hwmon"
        self._thermal = sysfs / "class/thermal"
        self._temperatures = ParallelReads(partial(_read_chip, kind="temp"), _SLOW_SECONDS, _WAIT_SECONDS)
        self._fans = ParallelReads(partial(_read_chip, kind="fan"), _SLOW_SECONDS, _WAIT_SECONDS)
        self._zones = ParallelReads(_read_zone, _SLOW_SECONDS, _WAIT_SECONDS)
        self._known: dict[tuple[int, Path], _Chip] = {}

    def sensors_temperatures(self) -> dict[str, list[Sensor]]:
        """Return temperatures in degrees Celsius by name of the chip; several chips may have the same name."""
        folders = self._folders("temp")
        if not folders:
            return self._by_name(self._zones, sorted(self._thermal.glob("thermal_zone*")))
        chips = self._by_name(self._temperatures, folders)
        return {
            name: [sensor._replace(current=sensor.current / _MILLIDEGREES) for sensor in sensors]
            for name, sensors in chips.items()
        }

    def sensors_fans(self) -> dict[str, list[Sensor]]:
        """Return turns per minute by name of the chip."""
        return self._by_name(self._fans, self._folders("fan"))

    def _folders(self, kind: str) -> list[Path]:
        """Return the folders with sensors of one kind; some kernels have them one level lower."""
        files = self._hwmon.glob(f"hwmon*/{kind}*_input"), self._hwmon.glob(f"hwmon*/device/{kind}*_input")
        return sorted({file.parent for found in files for file in found})

    def _by_name(self, reads: ParallelReads[Path, _Chip], folders: list[Path]) -> dict[str, list[Sensor]]:
        sensors: dict[str, list[Sensor]] = {}
        self._known = {key: chip for key, chip in self._known.items() if key[0] != id(reads) or key[1] in folders}
        for folder, reading in reads.measure(folders).items():
            key = id(reads), folder
            if reading.value is not None:
                self._known[key] = reading.value
                chip = reading.value
            elif key in self._known:
                name, before = self._known[key]
                chip = _Chip(name, [sensor._replace(current=nan) for sensor in before])
            else:
                continue
            sensors.setdefault(chip.name, []).extend(chip.sensors)
        return sensors


def _read_chip(folder: Path, kind: str) -> _Chip:
    """Read the sensors of one kind (source: Linux Documentation/hwmon/sysfs-interface.rst)."""
    sensors = []
    for base in sorted(file.name.removesuffix("_input") for file in folder.glob(f"{kind}*_input")):
        try:
            value: float = whole_number(read_if_possible(folder / f"{base}_input") or "")
        except ValueError:
            value = nan
        sensors.append(Sensor(read_if_possible(folder / f"{base}_label") or "", value))
    return _Chip(read(folder / "name").strip(), sensors)


def _read_zone(folder: Path) -> _Chip:
    temperature = whole_number(read(folder / "temp").strip()) / _MILLIDEGREES
    return _Chip(read(folder / "type").strip(), [Sensor("", temperature)])
