from __future__ import annotations

from prometheus_client import CollectorRegistry

from modelhost_exporter.requests.metrics import RequestMetrics
from modelhost_exporter.requests.observation import RequestLabels, RequestObservation
from modelhost_exporter.requests.slo import Objectives


def test_each_listener_receives_each_finished_request() -> None:
    """Listeners are called in order, also for requests that are not for inference."""
    calls: list[tuple[str, RequestObservation]] = []
    metrics = RequestMetrics(
        CollectorRegistry(),
        (lambda observed: calls.append(("first", observed)), lambda observed: calls.append(("second", observed))),
    )
    observations = [
        RequestObservation(RequestLabels("s", "m", operation), stream=False, outcome="ok", code="200", duration=1.0)
        for operation in ("chat", "other")
    ]
    for observed in observations:
        metrics.record(observed, Objectives())
    assert calls == [(name, observed) for observed in observations for name in ("first", "second")]
