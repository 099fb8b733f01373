"""The models' part of the message: requests from the proxy, state from their servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelhost_exporter.live.request_totals import NO_REQUESTS
from modelhost_exporter.requests.model_names import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelhost_exporter.live.family_lookup import Families
    from modelhost_exporter.live.measurements import Measurements, RequestsSpan
    from modelhost_exporter.live.request_totals import ModelKey, RequestCounts

Model = dict[str, Any]

MOST = 100
"""Models in a message: those with the most requests."""


def models(families: Families, measurements: Measurements, rate_seconds: float, mean_seconds: float) -> list[Model]:
    """Return the models, those with the most requests first; rates and means are of so many seconds."""
    ever = measurements.newest.requests
    in_flight = measurements.newest.in_flight
    memory = _by_model(families, "model_memory_bytes")
    loaded = _by_model(families, "model_loaded")
    found = {*ever, *memory, *loaded, *(key for key, count in in_flight.items() if count)}
    chosen = sorted((key for key in found if key[1] != UNKNOWN), key=lambda key: (-_requests(ever, key), "/".join(key)))
    rate, recent = measurements.requests_span(rate_seconds), measurements.requests_span(mean_seconds)
    return [
        {
            "id": "/".join(key),
            "server": key[0],
            "model": key[1],
            **_traffic(key, ever.get(key), rate, recent),
            "inFlight": _whole(in_flight.get(key)),
            "totalRequests": int(ever[key].requests) if key in ever else None,
            "memoryUsage": memory.get(key),
            "loaded": bool(loaded[key]) if key in loaded else None,
        }
        for key in chosen[:MOST]
    ]


def find(found: list[Model], wanted: str) -> Model | None:
    """Return the model with this id, or with this name where only one server has it."""
    named = [model for model in found if wanted == model["id"]] or [
        model for model in found if wanted == model["model"]
    ]
    return named[0] if len(named) == 1 else None


def _traffic(
    key: ModelKey, ever: RequestCounts | None, rate: RequestsSpan | None, recent: RequestsSpan | None
) -> Model:
    """Return what the proxy saw; None for what it never saw, and for means of no requests."""
    lately = recent.of(key) if recent else NO_REQUESTS
    errors = lately.error_percent()
    return {
        "requestsPerSecond": rate.of(key).requests / rate.seconds if rate and ever else None,
        "avgResponseTime": lately.mean_ms(),
        **lately.quantiles_ms(),
        "successRate": None if errors is None else 100.0 - errors,
        "tokensPerSecond": rate.of(key).output_tokens / rate.seconds if rate and ever and ever.output_tokens else None,
        "timeToFirstToken": lately.first_token_ms(),
    }


def _by_model(families: Families, name: str) -> dict[ModelKey, float]:
    return {(server, model): value for (server, model), value in families.by(name, "server", "model").items()}


def _requests(ever: Mapping[ModelKey, RequestCounts], key: ModelKey) -> float:
    return ever[key].requests if key in ever else 0.0


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)
