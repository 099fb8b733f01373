"""Engines and their loaded models, as polled: queues, caches, memory, latencies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.collector import Collector, CollectorContext, CollectorOptions, SimulatedHost, Unavailable
from modelhost_exporter.engines import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client.metrics_core import Metric

FAMILIES = metrics.FAMILIES


class EnginesCollector:
    """The families of all polled engines, as of the last poll of each."""

    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Return the families of all servers; Unavailable when none is configured."""
        families = list(self._families())
        if not families:
            raise Unavailable("no servers are configured, or none has been polled yet")
        return families


def create(_options: CollectorOptions, context: CollectorContext) -> Collector:
    """Build the collector of polled engines."""
    return EnginesCollector(context.engine_families)


def create_simulated(options: CollectorOptions, context: CollectorContext, _host: SimulatedHost) -> Collector:
    """Build the collector for ``--demo``, whose engines are polled like real ones."""
    return create(options, context)
