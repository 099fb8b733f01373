"""Incidents and their schedule: one that repeats every hour, or a test's own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from modelhost_exporter.demo.catalogue import KINDS

Kind = Literal[
    "clock_unsynchronised",
    "collector_failing",
    "cpu_busy",
    "disk_busy",
    "disk_filling",
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
    "server_down",
    "server_errors",
    "upstream_unreachable",
]


@dataclass(frozen=True)
class Incident:
    """A fault that begins at ``start`` and lasts ``duration`` seconds.

    ``target`` is the affected part: the index of a GPU, a model server, a collector or a device.
    """

    kind: Kind
    start: float
    duration: float
    target: str = ""


@dataclass(frozen=True)
class IncidentSchedule:
    """Incidents relative to ``origin`` (seconds since 1970), repeated every ``period`` seconds."""

    incidents: tuple[Incident, ...] = ()
    period: float = math.inf
    origin: float = 0.0

    def at(self, time: float) -> dict[Incident, float]:
        """Return the incidents at a time, each with its progress (0 to 1)."""
        phase = (time - self.origin) % self.period if time >= self.origin else -math.inf
        return {
            incident: (phase - incident.start) / incident.duration
            for incident in self.incidents
            if incident.start <= phase < incident.start + incident.duration
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
        wanted = str(target)
        return next((part for one, part in self._now.items() if one.kind == kind and one.target == wanted), None)

    def has(self, kind: Kind, target: object = "") -> bool:
        """Return whether there is an incident of this kind now."""
        return self.progress(kind, target) is not None


_MINUTE = 60.0

# kind, target, first minute, minutes: each lasts as long as its alert's `for`, where that fits into an hour
_OF_MACHINE: tuple[tuple[Kind, str, float, float], ...] = (
    ("collector_failing", "sensors", 0, 13),
    ("gpu_hot", "1", 2, 10),
    ("disk_filling", "/data", 2, 56),
    ("memory_pressure", "", 3, 20),
    ("gpu_power_capped", "0", 6, 39),
    ("disk_busy", "nvme0n1", 8, 36),
    ("gpu_program_fault", "5", 19, 1),
    ("cpu_busy", "", 25, 24),
    ("gpu_memory_errors", "3", 30, 12),
    ("network_errors", "eth1", 33, 20),
    ("gpu_contained_error", "2", 34, 1),
    ("gpu_link_narrow", "2", 36, 22),
    ("clock_unsynchronised", "", 40, 18),
    ("files_filling", "/", 42, 12),
    ("gpu_remap_failed", "6", 44, 5),
    ("gpu_lost", "4", 48, 7),
)

_OF_SERVERS = tuple(
    (kind, simulated.SERVER.name, start, minutes)
    for simulated in KINDS.values()
    for kind, start, minutes in simulated.INCIDENTS
)

HOURLY = IncidentSchedule(
    tuple(
        Incident(kind, start * _MINUTE, minutes * _MINUTE, target)
        for kind, target, start, minutes in sorted((*_OF_MACHINE, *_OF_SERVERS), key=lambda incident: incident[2])
    ),
    period=60 * _MINUTE,
)
"""Every incident once an hour, by the wall clock."""
