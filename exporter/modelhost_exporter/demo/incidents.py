"""Incidents and their schedule: the demo's own, which repeats, or a test's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from modelhost_exporter.demo.catalogue import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Kind = Literal[
    "clock_unsynchronised",
    "collector_failing",
    "cpu_busy",
    "disk_busy",
    "disk_filling",
    "disk_readonly",
    "files_filling",
    "gpu_contained_error",
    "gpu_hot",
    "gpu_link_narrow",
    "gpu_lost",
    "gpu_memory_errors",
    "gpu_power_capped",
    "gpu_program_fault",
    "gpu_remap_failed",
    "memory_pressure",
    "models_evicted",
    "network_errors",
    "queue_growing",
    "replica_down",
    "server_crash_loop",
    "server_down",
    "server_errors",
    "server_stuck",
    "upstream_unreachable",
]


@dataclass(frozen=True)
class Incident:
    """A fault that begins at ``start``, lasts ``duration`` and begins again every ``period`` seconds.

    ``target`` is the affected part: the index of a GPU, a model server, a collector or a device.
    """

    kind: Kind
    start: float
    duration: float
    target: str = ""
    period: float = math.inf


@dataclass(frozen=True)
class IncidentSchedule:
    """Incidents relative to ``origin`` (seconds since 1970)."""

    incidents: tuple[Incident, ...] = ()
    origin: float = 0.0

    def at(self, time: float) -> dict[Incident, float]:
        """Return the incidents at a time, each with its progress (0 to 1)."""
        phases = {incident: (time - self.origin - incident.start) % incident.period for incident in self.incidents}
        return {
            incident: phase / incident.duration
            for incident, phase in phases.items()
            if time - self.origin >= incident.start and phase < incident.duration
        }


class Situation:
    """The current incidents, and those that have just begun or ended."""

    def __init__(self, schedule: IncidentSchedule) -> None:
        self._schedule = schedule
        self._now: dict[Incident, float] = {}
        self.begun: tuple[Incident, ...] = ()
        self.ended: tuple[Incident, ...] = ()

    def go_to(self, time: float) -> None:
        """Advance to a time."""
        before, self._now = self._now, self._schedule.at(time)
        self.begun = tuple(incident for incident in self._now if incident not in before)
        self.ended = tuple(incident for incident in before if incident not in self._now)

    def progress(self, kind: Kind, target: object = "") -> float | None:
        """Return an incident's progress (0 to 1); None when there is none of this kind."""
        _, part = self._current(kind, target)
        return part

    def elapsed(self, kind: Kind, target: object = "") -> float | None:
        """Return the seconds since an incident began; None when there is none of this kind."""
        incident, part = self._current(kind, target)
        return None if incident is None or part is None else part * incident.duration

    def _current(self, kind: Kind, target: object) -> tuple[Incident, float] | tuple[None, None]:
        wanted = str(target)
        return next(
            ((one, part) for one, part in self._now.items() if one.kind == kind and one.target == wanted), (None, None)
        )

    def has(self, kind: Kind, target: object = "") -> bool:
        """Return whether there is an incident of this kind now."""
        return self.progress(kind, target) is not None


_MINUTE = 60.0

# kind, target, first minute, minutes: each lasts as long as its alert's `for`, where that fits into an hour
_EVERY_HOUR: tuple[tuple[Kind, str, float, float], ...] = (
    ("collector_failing", "sensors", 0, 13),
    ("gpu_hot", "1", 2, 10),
    ("disk_filling", "/data", 2, 56),
    ("memory_pressure", "", 3, 20),
    ("gpu_power_capped", "0", 6, 39),
    ("disk_busy", "nvme0n1", 8, 36),
    ("disk_readonly", "/archive", 12, 10),
    ("gpu_program_fault", "5", 19, 1),
    ("gpu_lost", "4", 20, 7),
    ("cpu_busy", "", 25, 24),
    ("gpu_memory_errors", "3", 30, 12),
    ("network_errors", "eth1", 33, 20),
    ("gpu_contained_error", "2", 34, 1),
    ("gpu_link_narrow", "2", 36, 22),
    ("clock_unsynchronised", "", 40, 18),
    ("files_filling", "/", 42, 12),
    ("gpu_remap_failed", "6", 44, 5),
)


def _repeated(table: Iterable[tuple[Kind, str, float, float]], hours: float) -> tuple[Incident, ...]:
    return tuple(
        Incident(kind, start * _MINUTE, minutes * _MINUTE, target, hours * 60 * _MINUTE)
        for kind, target, start, minutes in table
    )


def _of_servers(name: str) -> Iterator[tuple[Kind, str, float, float]]:
    for simulated in KINDS.values():
        for kind, start, minutes in getattr(simulated, name):
            yield kind, simulated.SERVER.name, start, minutes


USUAL = IncidentSchedule(
    tuple(
        sorted(
            (*_repeated((*_EVERY_HOUR, *_of_servers("INCIDENTS")), 1), *_repeated(_of_servers("LONG_INCIDENTS"), 12)),
            key=lambda incident: incident.start,
        )
    )
)
"""Most incidents once an hour, the long ones at midnight and at noon, by the wall clock (UTC)."""
