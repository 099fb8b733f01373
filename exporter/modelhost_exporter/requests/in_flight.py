"""Requests in progress, read from their gauge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.requests.metrics import IN_FLIGHT
from modelhost_exporter.requests.observation import RequestLabels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prometheus_client import CollectorRegistry

    InFlight = Mapping[tuple[str, str], float]
    """The number of requests by (server, model)."""


def in_flight_by_model(registry: CollectorRegistry) -> InFlight:
    """Return the requests for inference in progress by (server, model); empty without ``RequestMetrics``."""
    counts: dict[tuple[str, str], float] = {}
    for family in registry.restricted_registry((IN_FLIGHT.name,)).collect():
        for sample in family.samples:
            labels = RequestLabels(*(sample.labels[name] for name in RequestLabels._fields))
            if labels.is_inference:
                key = (labels.server, labels.model)
                counts[key] = counts.get(key, 0.0) + sample.value
    return counts
