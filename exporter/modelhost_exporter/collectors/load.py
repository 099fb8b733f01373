"""Load averages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psutil

from modelhost_exporter.metrics.families import gauge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from modelhost_exporter.collector import Collector, CollectorContext, CollectorOptions, SimulatedHost

FAMILIES = tuple(
    gauge(
        f"load{minutes}",
        f"Mean number of tasks that ran or waited (for CPU or disk) over the last {minutes} min, exponentially damped.",
    )
    for minutes in (1, 5, 15)
)


class LoadCollector:
    """The 1, 5 and 15 minute load averages (psutil)."""

    def __init__(self, source: Any = psutil) -> None:
        self._source = source

    def collect(self) -> Iterator[Metric]:
        """Yield the three averages."""
        for family, value in zip(FAMILIES, self._source.getloadavg(), strict=True):
            yield from family.of(value)


def create(_options: CollectorOptions, _context: CollectorContext) -> Collector:
    """Build the load collector."""
    return LoadCollector()


def create_simulated(_options: CollectorOptions, _context: CollectorContext, host: SimulatedHost) -> Collector:
    """Build the collector for ``--demo``."""
    return LoadCollector(host.psutil)
