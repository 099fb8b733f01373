"""The energy of the message: power now, and what GPUs and processors have used today."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from modelhost_exporter.config.cost import Cost
    from modelhost_exporter.live.family_lookup import Families
    from modelhost_exporter.live.message import EnergyMessage

_MAX_GAP_SECONDS = 30.0
"""Longest time between two readings over which the power of a GPU without an energy counter counts."""
_JOULES_PER_KWH = 3.6e6

_Part = tuple[str, str]
"""What is measured: gpu, cpu or memory, and which one."""


class _Reading(NamedTuple):
    at: float
    joules: Mapping[_Part, float]
    watts: Mapping[_Part, float]


class EnergyToday:
    """Adds up energy between readings, since midnight or the first reading of the day."""

    def __init__(self, local_time: Callable[[float], time.struct_time] = time.localtime) -> None:
        """Start at nothing; ``local_time`` decides when a day begins."""
        self._local_time = local_time
        self._last: _Reading | None = None
        self._counters: dict[_Part, float] = {}
        self._day: tuple[int, int] | None = None
        self._since = 0.0
        self._joules = 0.0

    def message(self, at: float, when: float, families: Families, cost: Cost) -> EnergyMessage | None:
        """Return the energy up to this reading; None where nothing is measured, and nothing was today.

        ``at`` is in seconds of the monotonic clock, ``when`` since 1970.
        """
        self._begin_day(when)
        last, self._last = self._last, _read(at, families)
        used = {part: self._used(part, last, self._last) for part in {*self._last.joules, *self._last.watts}}
        self._counters |= self._last.joules
        self._joules += sum(joules or 0.0 for joules in used.values())
        if not used and not self._joules:
            return None
        kwh = self._joules / _JOULES_PER_KWH
        return {
            "powerWatts": _power(last, self._last, used),
            "parts": [name for name, part in _PARTS.items() if any(kind == part for kind, _ in used)],
            "todayKwh": kwh,
            "todaySince": _iso(self._since),
            "todayCost": None if cost.per_kwh is None else kwh * cost.per_kwh,
            "currency": cost.currency or None,
        }

    def _begin_day(self, when: float) -> None:
        local = self._local_time(when)
        day = local.tm_year, local.tm_yday
        if day != self._day:
            self._day, self._since, self._joules = day, when, 0.0

    def _used(self, part: _Part, last: _Reading | None, now: _Reading) -> float | None:
        """Return the joules since the last reading; None where they are not known. A counter that fell began again."""
        if part in now.joules:
            before = self._counters.get(part)
            return None if before is None else max(0.0, now.joules[part] - before)
        if last is None or part not in last.watts or now.at - last.at > _MAX_GAP_SECONDS:
            return None
        return (last.watts[part] + now.watts[part]) / 2 * (now.at - last.at)


_PARTS = {"GPUs": "gpu", "processors": "cpu"}


def _read(at: float, families: Families) -> _Reading:
    gpus = {("gpu", uuid): joules for (uuid,), joules in families.by("gpu_energy_joules_total", "uuid").items()}
    watts = {("gpu", uuid): power for (uuid,), power in families.by("gpu_power_watts", "uuid").items()}
    cpus = {("cpu", index): joules for (index,), joules in families.by("rapl_package_joules_total", "index").items()}
    memory = {("memory", index): joules for (index,), joules in families.by("rapl_dram_joules_total", "index").items()}
    if cpus:  # a GPU of an APU reports the power of the whole processor
        for (uuid,), unified in families.by("gpu_unified_memory", "uuid").items():
            if unified:
                watts.pop(("gpu", uuid), None)
                gpus.pop(("gpu", uuid), None)
    return _Reading(at, gpus | cpus | memory, watts)


def _power(last: _Reading | None, now: _Reading, used: Mapping[_Part, float | None]) -> float | None:
    """Return the power of all parts: as reported, else that since the last reading; None unless all are known."""
    seconds = now.at - last.at if last is not None else 0.0
    powers = []
    for part, joules in used.items():
        if part in now.watts:
            powers.append(now.watts[part])
        elif joules is None or seconds <= 0:
            return None
        else:
            powers.append(joules / seconds)
    return sum(powers) if powers else None


def _iso(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
