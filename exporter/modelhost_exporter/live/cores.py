"""The work of each CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.collectors.cpu import NO_WORK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelhost_exporter.live.family_lookup import Families


class CoreTime(NamedTuple):
    """CPU seconds of one logical CPU: with work, and in all."""

    busy: float
    seconds: float


def core_times(families: Families) -> Mapping[str, CoreTime]:
    """Return the time of each logical CPU that is online, by its number."""
    busy: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for sample in families.samples("cpu_seconds_total"):
        cpu = sample.labels["cpu"]
        seconds[cpu] = seconds.get(cpu, 0.0) + sample.value
        if sample.labels["mode"] not in NO_WORK:
            busy[cpu] = busy.get(cpu, 0.0) + sample.value
    return {cpu: CoreTime(busy.get(cpu, 0.0), total) for cpu, total in seconds.items()}


def core_percent(first: Mapping[str, CoreTime], last: Mapping[str, CoreTime]) -> list[int] | None:
    """Return the work of each CPU of ``last`` between two readings in percent, by number; None without a reading.

    A CPU that came online in between counts from 0.
    """
    if not first or not last:
        return None
    return [_percent(first.get(cpu, _NONE), last[cpu]) for cpu in sorted(last, key=int)]


_NONE = CoreTime(0.0, 0.0)


def _percent(first: CoreTime, last: CoreTime) -> int:
    seconds = last.seconds - first.seconds
    return min(100, max(0, round(100 * (last.busy - first.busy) / seconds))) if seconds > 0 else 0
