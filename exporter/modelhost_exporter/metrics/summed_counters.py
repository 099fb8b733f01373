"""The sum of counters of devices that come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric

    from modelhost_exporter.metrics.families import Family


class SummedCounter:
    """A counter that grows with each of several counters, from 0 on.

    The plain sum would fall when a device is removed, which Prometheus takes for a restart: the whole sum of the others
    would count as new. Here a removed device costs nothing, and one that appears, or whose counter falls, counts from
    then on.
    """

    def __init__(self) -> None:
        self._last: Mapping[str, float] = {}
        self._total: float = 0

    def add(self, counters: Iterable[tuple[str, float]]) -> float:
        """Return the sum of all increases, with those up to these values."""
        now = dict(counters)
        self._total += sum(max(0, value - self._last.get(name, value)) for name, value in now.items())
        self._last = now
        return self._total


class SummedFamilies:
    """Families that are the sums over devices of the fields of these names."""

    def __init__(self, families: Mapping[str, Family]) -> None:
        self._sums = {name: (family, SummedCounter()) for name, family in families.items()}

    def of(self, counts: Mapping[str, Any]) -> Iterator[Metric]:
        """Yield the families with the counts of these devices."""
        for name, (family, total) in self._sums.items():
            yield from family.of(total.add((device, getattr(fields, name)) for device, fields in counts.items()))
