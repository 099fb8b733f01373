"""Energy of processors and their memory (RAPL)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.collector import (
    Collector,
    CollectorContext,
    CollectorOptions,
    SimulatedHost,
    Unavailable,
    log_once,
)
from modelhost_exporter.linux.kernel_files import count, count_if_possible, read, read_if_possible
from modelhost_exporter.metrics.families import counter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

_NOTE = "The kernel's counter wraps around after minutes; this one does not, if it is read more often."

# name of a zone, without its number (Linux Documentation/power/powercap/powercap.rst) → family
_FAMILIES = {
    "package": counter("rapl_package_joules", "Energy used by a processor, its cores included.", "index", note=_NOTE),
    "core": counter("rapl_core_joules", "Energy used by a processor's cores, part of the processor's.", "index"),
    "uncore": counter(
        "rapl_uncore_joules", "Energy used by a processor's integrated GPU, part of the processor's.", "index"
    ),
    "dram": counter("rapl_dram_joules", "Energy used by the memory of a processor, not part of its own.", "index"),
    "psys": counter("rapl_psys_joules", "Energy used by the whole platform, where it is measured.", "index"),
}
FAMILIES = tuple(_FAMILIES.values())

_JOULES = 1e-6
_FIRMWARE = ("intel-rapl", "intel-rapl-mmio")
"""Control types in the order of preference; some machines have the same zones in both. AMD's are ``intel-rapl`` too."""


class RaplCollector:
    """Zones below /sys/class/powercap, which only root may read since a side channel was found (CVE-2020-8694)."""

    def __init__(self, sysfs: Path) -> None:
        self._powercap = sysfs / "class/powercap"
        self._energies: dict[Path, _Energy] = {}

    def collect(self) -> Iterator[Metric]:
        """Yield the energy of each zone; Unavailable without zones that may be read."""
        zones = self._zones()
        if not zones:
            raise Unavailable("no energy counter of a processor (RAPL)")
        self._energies = {folder: self._energies.get(folder) or _Energy() for folder in zones}
        joules = {}
        for folder, key in zones.items():
            try:
                joules[key] = self._energies[folder].joules(folder)
            except PermissionError as error:
                raise Unavailable(f"only root may read {error.filename}") from error
            except (OSError, ValueError, Unavailable) as error:
                log_once(str(folder), str(error))
        if not joules:
            raise Unavailable(f"no energy counter below {self._powercap} can be read")
        for name, family in _FAMILIES.items():
            yield from family.by(((index,), value) for (zone, index), value in joules.items() if zone == name)

    def _zones(self) -> dict[Path, tuple[str, str]]:
        """Return the name and the processor of each known zone."""
        for kind in _FIRMWARE:
            names = {folder: read_if_possible(folder / "name") for folder in sorted(self._powercap.glob(f"{kind}:*"))}
            found = {folder: _key(names, folder) for folder in names}
            if zones := {folder: key for folder, key in found.items() if key[0] in _FAMILIES}:
                return zones
        return {}


class _Energy:
    """The energy of one zone, whose counter starts again from 0 at the end of its range."""

    def __init__(self) -> None:
        self._last = 0
        self._before = 0

    def joules(self, folder: Path) -> float:
        """Read the counter. Raises OSError where that is not allowed.

        A fall is the end of the range if less than half of that has passed, else a restart, as by loading the driver.
        """
        now = count(read(folder / "energy_uj").strip())
        whole = count_if_possible(folder / "max_energy_range_uj") or 0
        if now < self._last:
            self._before += whole if 2 * (whole - self._last + now) < whole else self._last
        self._last = now
        return (self._before + now) * _JOULES


def _key(names: dict[Path, str | None], folder: Path) -> tuple[str, str]:
    """Return the name of a zone without its number, and its processor: ``package-0-die-1`` is 0-die-1."""
    name, _, index = (names[folder] or "").partition("-")
    parent = folder.with_name(folder.name.rpartition(":")[0])
    return name, index or (_key(names, parent)[1] if parent in names else "0")


def create(_options: CollectorOptions, context: CollectorContext) -> Collector:
    """Build the collector of energy."""
    return RaplCollector(context.paths.sysfs)


def create_simulated(options: CollectorOptions, context: CollectorContext, _host: SimulatedHost) -> Collector:
    """Build the collector for ``--demo``, which writes the same files."""
    return create(options, context)
