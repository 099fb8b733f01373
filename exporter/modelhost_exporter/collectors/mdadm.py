"""Arrays of Linux software RAID (md): disks, state and progress of a synchronisation."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

from modelhost_exporter.collector import Collector, CollectorContext, CollectorOptions, SimulatedHost, Unavailable
from modelhost_exporter.linux.kernel_files import count, count_if_possible, read_if_possible
from modelhost_exporter.metrics.families import gauge

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

DISKS = gauge("md_disks", "Disks of the array by state.", "device", "state")
REQUIRED = gauge(
    "md_disks_required",
    "Disks that the array has when it is complete.",
    "device",
    note="More than the active ones: the array is degraded, and the next disk that fails may lose its data.",
)
STATE = gauge("md_state", "1 for the state that the array is in, 0 for the others.", "device", "state")
SYNCED = gauge("md_sync_completed_ratio", "Part of the running synchronisation or check that is done.", "device")
FAMILIES = (DISKS, REQUIRED, STATE, SYNCED)

_DISK_STATES = ("active", "failed", "spare")
_STATES = ("active", "inactive", "recovering", "resync", "check")
_ACTIONS = {"recover": "recovering", "reshape": "recovering", "resync": "resync", "check": "check", "repair": "check"}
_STOPPED = ("clear", "inactive", "broken")


class MdadmCollector:
    """Arrays below /sys/block (source: Linux Documentation/admin-guide/md.rst)."""

    def __init__(self, sysfs: Path) -> None:
        self._blocks = sysfs / "block"

    def collect(self) -> Iterator[Metric]:
        """Yield the arrays; Unavailable without one."""
        arrays = {name: self._blocks / name / "md" for name in self._names()}
        if not arrays:
            raise Unavailable("no array of software RAID")
        disks = {name: _disks(folder) for name, folder in arrays.items()}
        yield from DISKS.by(((name, state), of[state]) for name, of in disks.items() for state in _DISK_STATES)
        # during a change of the number "4 (3)"
        yield from REQUIRED.by(((name,), count_if_possible(folder / "raid_disks")) for name, folder in arrays.items())
        states = {name: _state(folder) for name, folder in arrays.items()}
        yield from STATE.by(
            ((name, state), float(state == current)) for name, current in states.items() if current for state in _STATES
        )
        yield from SYNCED.by(((name,), _progress(folder)) for name, folder in arrays.items())

    def _names(self) -> list[str]:
        """Return the names of the arrays, which the kernel begins with md."""
        try:
            names = sorted(folder.name for folder in os.scandir(self._blocks) if folder.name.startswith("md"))
        except OSError:
            return []
        return [name for name in names if (self._blocks / name / "md").is_dir()]


def _disks(folder: Path) -> Counter[str]:
    """Return the number of disks by state; one that is being filled is neither active nor a spare."""
    found: Counter[str] = Counter()
    for file in folder.glob("dev-*/state"):
        words = (read_if_possible(file) or "").split(",")
        if "faulty" in words:
            found["failed"] += 1
        elif "in_sync" in words:
            found["active"] += 1
        elif "spare" in words:
            found["spare"] += 1
    return found


def _state(folder: Path) -> str | None:
    """Return the state of an array; None where it cannot be read. RAID 0 and linear arrays have no action."""
    array = read_if_possible(folder / "array_state")
    if not array:
        return None
    return "inactive" if array in _STOPPED else _ACTIONS.get(read_if_possible(folder / "sync_action") or "", "active")


def _progress(folder: Path) -> float | None:
    """Return how much of ``sync_completed`` ("done / all" sectors) is done; None where nothing runs ("none")."""
    done, _, whole = (read_if_possible(folder / "sync_completed") or "").partition(" / ")
    try:
        return min(1.0, count(done) / count(whole))
    except (ValueError, ZeroDivisionError):
        return None


def create(_options: CollectorOptions, context: CollectorContext) -> Collector:
    """Build the collector of software RAID."""
    return MdadmCollector(context.paths.sysfs)


def create_simulated(options: CollectorOptions, context: CollectorContext, _host: SimulatedHost) -> Collector:
    """Build the collector for ``--demo``, which writes the same files."""
    return create(options, context)
