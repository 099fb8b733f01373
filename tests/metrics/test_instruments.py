"""Instruments are rendered like those of prometheus_client."""

from __future__ import annotations

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, disable_created_metrics

from modelhost_exporter.metrics.exposition import OPENMETRICS
from modelhost_exporter.metrics.families import counter, gauge, histogram
from modelhost_exporter.metrics.instruments import live_counter, live_gauge, live_histogram

BOUNDS = (0.001, 0.5, 1, 2.5, 1048576)


def _page(registry: CollectorRegistry) -> str:
    return OPENMETRICS.render(list(registry.collect())).decode()


def test_the_page_is_that_of_the_reference() -> None:
    """Bounds are inclusive, buckets are cumulative, and numbers have the same format."""
    disable_created_metrics()  # type: ignore[no-untyped-call] # has no types
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    name = "modelhost_{}".format
    requests = (
        live_counter(counter("requests", "Some.", "model"), ours),
        prometheus_client.Counter(name("requests"), "Some.", ["model"], registry=theirs),
    )
    running = (
        live_gauge(gauge("running", "Some.", "model"), ours),
        prometheus_client.Gauge(name("running"), "Some.", ["model"], registry=theirs),
    )
    seconds = (
        live_histogram(histogram("seconds", "Some.", BOUNDS, "model"), ours),
        prometheus_client.Histogram(name("seconds"), "Some.", ["model"], registry=theirs, buckets=BOUNDS),
    )
    plain = (
        live_histogram(histogram("plain", "Some.", BOUNDS), ours).labels(),
        prometheus_client.Histogram(name("plain"), "Some.", registry=theirs, buckets=BOUNDS),
    )
    assert "plain_count" not in _page(ours), "absent beats zero"
    for model in ("a", "b"):
        for count in requests:
            count.labels(model).inc()
            count.labels(model).inc(2)
        for level in running:
            level.labels(model).inc()
            level.labels(model).dec()
            level.labels("set").set(3)
        for times in seconds:
            for value in (0, *BOUNDS, 1.5, 1e9):
                times.labels(model).observe(value)
    for times_without in plain:
        times_without.observe(0.25)
    assert _page(ours) == _page(theirs)


def test_a_child_has_a_value_for_each_label() -> None:
    """Too few or too many values raise a ValueError."""
    requests = live_counter(counter("requests", "Some.", "model"), CollectorRegistry())
    for wrong in ((), ("a", "b")):
        with pytest.raises(ValueError, match="labels"):
            requests.labels(*wrong)


def test_bound_children_are_those_of_the_instrument() -> None:
    """They are looked up by the remaining label values, one or several, and made when they are first looked up."""
    requests = live_counter(counter("requests", "Some.", "server", "code", "stream"), CollectorRegistry())
    assert not requests.bind("a").keys()
    assert requests.bind("a")["200", "true"] is requests.labels("a", "200", "true")
    assert requests.bind("a", "500")["true"] is requests.labels("a", "500", "true")
    assert requests.children().keys() == {("a", "200", "true"), ("a", "500", "true")}


def test_children_are_removed_by_their_labels() -> None:
    """Of a family the series with these label values end; the others keep their values."""
    registry = CollectorRegistry()
    requests = live_counter(counter("requests", "Some.", "server", "model", "code"), registry)
    for values in (("a", "m", "200"), ("a", "m", "500"), ("a", "n", "200"), ("b", "m", "200")):
        requests.labels(*values).inc()
    requests.remove(server="a", model="m")
    left = [tuple(sample.labels.values()) for family in registry.collect() for sample in family.samples]
    assert left == [("a", "n", "200"), ("b", "m", "200")]
    requests.labels("a", "m", "200").inc()
    assert [child.value for child in requests.children(server="a", model="m").values()] == [1]
