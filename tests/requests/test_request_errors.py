"""Errors of requests by outcome, which start at 0 where the labels are known."""

from __future__ import annotations

from typing import get_args

import pytest
from prometheus_client import CollectorRegistry

from modelhost_exporter.requests.metrics import RequestMetrics
from modelhost_exporter.requests.observation import ERRORS, Outcome, RequestLabels, RequestObservation
from modelhost_exporter.requests.slo import Objectives
from tests.support.readings import Readings, readings


def _record(metrics: RequestMetrics, outcome: Outcome, *labels: str) -> None:
    observed = RequestObservation(RequestLabels(*labels), stream=False, outcome=outcome, code="500", duration=1.0)
    metrics.record(observed, Objectives())


def _errors(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    read: Readings = readings(registry.collect())
    return read.get("request_errors_total", {})


def _zeros(*labels: str) -> dict[tuple[str, ...], float]:
    return {(*labels, outcome): 0.0 for outcome in ERRORS}


@pytest.mark.parametrize("outcome", get_args(Outcome))
def test_errors_are_the_outcomes_that_error_rates_count(outcome: Outcome) -> None:
    """All outcomes start at 0 with a model's first request; client errors and disconnects are not counted."""
    registry = CollectorRegistry()
    _record(RequestMetrics(registry), outcome, "s", "m", "chat")
    counted = {("s", "m", "chat", outcome): 1.0} if outcome in ERRORS else {}
    assert _errors(registry) == _zeros("s", "m", "chat") | counted


def test_requests_that_are_not_for_inference_have_no_errors() -> None:
    """A health check that fails is no failed request."""
    registry = CollectorRegistry()
    _record(RequestMetrics(registry), "server_error", "s", "unknown", "other")
    assert _errors(registry) == {}


def test_a_request_in_progress_starts_the_series() -> None:
    """So that a first request that fails later is an increase."""
    registry = CollectorRegistry()
    RequestMetrics(registry).in_flight(RequestLabels("s", "m", "messages"), "waiting").inc()
    assert _errors(registry) == _zeros("s", "m", "messages")


def test_errors_of_known_models_start_at_0() -> None:
    """For chat, then for each operation that the server was used for; they end with the model that is not listed."""
    registry = CollectorRegistry()
    known = {("s", "m"), ("s", "n"), ("t", "m")}
    metrics = RequestMetrics(registry, known_models=lambda: known)
    start = _zeros("s", "m", "chat") | _zeros("s", "n", "chat") | _zeros("t", "m", "chat")
    assert _errors(registry) == start
    _record(metrics, "timeout", "s", "m", "embeddings")
    more = _zeros("s", "m", "embeddings") | _zeros("s", "n", "embeddings") | {("s", "m", "embeddings", "timeout"): 1.0}
    assert _errors(registry) == start | more
    known -= {("s", "m"), ("s", "n")}
    left = _zeros("s", "m", "embeddings") | {("s", "m", "embeddings", "timeout"): 1.0}
    assert _errors(registry) == left | _zeros("t", "m", "chat")
