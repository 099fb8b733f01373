"""Values of the proxy's own series, summed by server and model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.requests.metrics import CHUNKS, IN_FLIGHT
from modelhost_exporter.requests.observation import RequestLabels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prometheus_client import CollectorRegistry

    ByModel = Mapping[tuple[str, str], float]
    """A number by (server, model)."""


def in_flight_by_model(registry: CollectorRegistry) -> ByModel:
    """Return the requests for inference in progress by (server, model); empty without ``RequestMetrics``."""
    return _sum_by_model(registry, IN_FLIGHT.name)


def chunks_by_model(registry: CollectorRegistry) -> ByModel:
    """Return the chunks with tokens of all streams since the start, those in progress included."""
    return _sum_by_model(registry, CHUNKS.name)


def _sum_by_model(registry: CollectorRegistry, sample_name: str) -> ByModel:
    sums: dict[tuple[str, str], float] = {}
    for collected in registry.restricted_registry((sample_name,)).collect():
        for sample in collected.samples:
            if sample.name != sample_name:  # such as when a counter was created
                continue
            labels = RequestLabels(*(sample.labels[name] for name in RequestLabels._fields))
            if labels.is_inference:
                key = (labels.server, labels.model)
                sums[key] = sums.get(key, 0.0) + sample.value
    return sums
