"""Removing the series of one model."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from modelhost_exporter.config.duration import Seconds
from modelhost_exporter.requests.metrics import FAMILIES, RequestMetrics
from modelhost_exporter.requests.observation import RequestLabels, RequestObservation, ServerSeconds, Tokens
from modelhost_exporter.requests.slo import Objective, Objectives

ONE = Objective(Seconds(9.0))
ALL = Objectives(ttft=ONE, tpot=ONE, duration=ONE)


def _record(metrics: RequestMetrics, server: str, model: str) -> None:
    """Record a request that has a sample in every family."""
    labels = RequestLabels(server, model, "chat")
    metrics.in_flight(labels, "streaming").inc()
    metrics.chunks(labels).inc()
    assert not metrics.is_idle()  # which collects the gauge: it is seen
    metrics.in_flight(labels, "streaming").dec()
    metrics.record(
        RequestObservation(
            labels,
            stream=True,
            outcome="ok",
            code="200",
            duration=1.0,
            time_to_first_token=1.0,
            time_to_first_answer_token=1.0,
            time_per_output_token=1.0,
            max_gap=1.0,
            finish_reasons=("stop",),
            tokens=Tokens(input=1, output=1, source="server"),
            server_seconds=ServerSeconds(1.0, 1.0, 1.0, 1.0),
        ),
        ALL,
    )


def _models(registry: CollectorRegistry) -> dict[str, set[tuple[str, str]]]:
    """Return the servers and models that have samples, by family."""
    return {
        family.name: {(sample.labels["server"], sample.labels["model"]) for sample in family.samples}
        for family in registry.collect()
    }


def test_every_series_of_a_model_is_removed() -> None:
    """No family keeps one; the same model of another server and other models keep theirs, and listeners are called."""
    registry = CollectorRegistry()
    removed: list[tuple[str, str]] = []
    metrics = RequestMetrics(registry, removal_listeners=(lambda server, model: removed.append((server, model)),))
    everyone = {("a", "m"), ("a", "n"), ("b", "m")}
    for server, model in everyone:
        _record(metrics, server, model)
    assert len(_models(registry)) == len(FAMILIES)
    assert all(found == everyone for found in _models(registry).values())
    assert metrics.remove_model("a", "m")
    assert all(found == everyone - {("a", "m")} for found in _models(registry).values())
    assert removed == [("a", "m")]
    _record(metrics, "a", "m")  # it has new series, which begin at 0
    assert all(found == everyone for found in _models(registry).values())
    labels = {"server": "a", "model": "m", "operation": "chat", "source": "server"}
    assert registry.get_sample_value("modelhost_requests_by_usage_source_total", labels) == 1


def test_a_model_with_a_request_in_progress_keeps_its_series() -> None:
    """Nothing is removed before the request has ended, in whatever state it is."""
    registry = CollectorRegistry()
    removed: list[tuple[str, str]] = []
    metrics = RequestMetrics(registry, removal_listeners=(lambda server, model: removed.append((server, model)),))
    _record(metrics, "a", "m")
    before = _models(registry)
    gauge = metrics.in_flight(RequestLabels("a", "m", "embeddings"), "blocking")
    gauge.inc()
    assert not metrics.remove_model("a", "m")
    assert (_models(registry), removed) == (before, [])
    gauge.dec()
    assert metrics.remove_model("a", "m")
    assert not any(_models(registry).values())
