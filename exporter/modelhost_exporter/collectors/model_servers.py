"""Model servers and the models they have loaded, as their engines say: queues, caches, memory, latencies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.collectors import Collector, Options, Paths, Unavailable
from modelhost_exporter.engines.metrics import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client.metrics_core import Metric

__all__ = ["FAMILIES", "ModelServersCollector", "Options", "create"]


class ModelServersCollector:
    """Shows what was heard last of each server, from wherever they are watched."""

    def __init__(self, heard: Callable[[], Iterable[Metric]]) -> None:
        self._heard = heard

    def collect(self) -> Iterable[Metric]:
        """Return the families of all servers; Unavailable when none is configured."""
        families = list(self._heard())
        if not families:
            raise Unavailable("no servers are configured, or none has been polled yet")
        return families


def _nothing() -> Iterable[Metric]:
    return ()


def create(_options: Options, _paths: Paths) -> Collector:
    """Build a collector that watches nothing: the service gives it what its servers say."""
    return ModelServersCollector(_nothing)
