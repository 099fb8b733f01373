"""The totals of the live feed and of polling are those that the metrics of requests count."""

from __future__ import annotations

import random

import pytest
from prometheus_client import CollectorRegistry

from modelhost_exporter.engines.polling.proxy_totals import ProxyTotals
from modelhost_exporter.live.request_totals import RequestTotals
from modelhost_exporter.requests.metrics import DURATION, RequestMetrics
from modelhost_exporter.requests.observation import ERRORS, Outcome, RequestLabels, RequestObservation, Tokens
from modelhost_exporter.requests.slo import Objectives

OUTCOMES: tuple[Outcome, ...] = ("ok", "ok", "client_error", "client_disconnect", *sorted(ERRORS))


def _request(rng: random.Random) -> RequestObservation:
    labels = RequestLabels(rng.choice("st"), rng.choice("mno"), rng.choice(("chat", "embeddings", "other")))
    output = rng.choice((None, 0, rng.randrange(500)))
    return RequestObservation(
        labels,
        stream=rng.random() < 0.5,
        outcome=rng.choice(OUTCOMES),
        code="200",
        duration=rng.choice((rng.lognormvariate(0, 3), rng.choice(DURATION), 1e5)),
        time_to_first_token=rng.choice((None, rng.random())),
        tokens=Tokens(
            input=rng.choice((None, 1000)),
            input_cache_hit=rng.choice((None, rng.randrange(1001))),
            output=output,
            output_reasoning=rng.choice((None, rng.randrange((output or 0) + 1))),
        ),
    )


def _sum(registry: CollectorRegistry, name: str, server: str, **labels: str | None) -> float:
    """Return the sum of a family's series for inference; a label that is None may have any value."""
    wanted = {"server": server, **{label: value for label, value in labels.items() if value is not None}}
    return sum(
        sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == f"modelhost_{name}" and sample.labels["operation"] != "other"
        if wanted.items() <= sample.labels.items()
    )


@pytest.mark.parametrize("seed", range(3))
def test_totals_are_those_of_the_metrics(seed: int) -> None:
    """After many requests of all kinds, each total equals the sum of the series on the metrics page."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    registry = CollectorRegistry()
    live, polling = RequestTotals(), ProxyTotals(registry)
    metrics = RequestMetrics(registry, (live.add, polling.add))
    for _ in range(500):
        metrics.record(_request(rng), Objectives())
    by_model = live.by_model()
    assert set(by_model) == {(server, model) for server in "st" for model in "mno"}
    for (server, model), counts in by_model.items():
        common = {"server": server, "model": model}
        requests = _sum(registry, "requests_total", **common)
        below = [
            _sum(registry, "request_duration_seconds_bucket", **common, le=le) for le in ("0.1", "0.5", "1.0", "5.0")
        ]
        assert counts.requests == requests
        assert list(counts.by_range().values()) == [
            after - before for before, after in zip([0, *below], [*below, requests], strict=True)
        ]
    for server in "st":
        passed = polling.of(server)
        tokens = _sum(registry, "input_tokens_total", server) + _sum(registry, "output_tokens_total", server)
        assert passed.tokens == tokens
        assert passed.requests == {model: _sum(registry, "requests_total", server, model=model) for model in "mno"}
