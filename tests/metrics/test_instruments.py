"""Instruments are rendered like those of prometheus_client."""

from __future__ import annotations

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, disable_created_metrics

from modelhost_exporter.metrics.exposition import OPENMETRICS
from modelhost_exporter.metrics.families import counter, gauge, histogram
from modelhost_exporter.metrics.instruments import (
    Gauge,
    Instrument,
    live_counter,
    live_gauge,
    live_histogram,
    occasional_gauge,
)

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


def test_an_occasional_gauge_appears_with_its_first_value() -> None:
    """A series that was 0 in all collections is absent; one that was not is 0 from then on."""
    registry = CollectorRegistry()
    running = occasional_gauge(gauge("running", "Some.", "model"), registry)
    running.labels("never").inc()
    running.labels("never").dec()
    running.labels("once").inc()
    assert 'modelhost_running{model="once"} 1.0' in _page(registry)
    running.labels("once").dec()
    assert 'modelhost_running{model="once"} 0.0' in _page(registry)
    assert "never" not in _page(registry)


def test_lines_are_those_of_the_present_values() -> None:
    """What changes between two pages, be it by a value of 0 or a child that comes back, is on the next one."""
    registry = CollectorRegistry()
    times = live_histogram(histogram("seconds", "Some.", (1, 2), "model"), registry)
    requests = live_counter(counter("requests", "Some.", "model"), registry)
    requests.labels("a").inc()
    times.labels("a").observe(0.0)
    first = _page(registry)
    assert _page(registry) == first
    times.labels("a").observe(0.0)
    assert 'modelhost_seconds_count{model="a"} 2.0' in _page(registry)
    requests.remove(model="a")
    assert "modelhost_requests_total" not in _page(registry)
    requests.labels("a").inc(5)
    assert 'modelhost_requests_total{model="a"} 5.0' in _page(registry)


def test_samples_that_were_set_are_on_the_page() -> None:
    """A family of which a reader leaves out samples has only the others' lines."""
    registry = CollectorRegistry()
    requests = live_counter(counter("requests", "Some.", "model"), registry)
    for model in ("a", "b"):
        requests.labels(model).inc()
    (family,) = registry.collect()
    family.samples = [sample for sample in family.samples if sample.labels["model"] == "b"]
    page = OPENMETRICS.render([family]).decode()
    assert 'model="b"' in page
    assert 'model="a"' not in page


class _Changing(Gauge):
    """A gauge with another value for a moment, after its state was read."""

    def state(self) -> float | None:
        """Return the state, and change."""
        state = super().state()
        self.inc()
        return state


def test_kept_lines_are_those_of_the_state_that_they_are_kept_for() -> None:
    """A gauge that changes during a collection, and back after it, has its present value on the next page."""
    registry = CollectorRegistry()
    running = Instrument(gauge("running", "Some.", "model"), _Changing, registry)
    child = running.labels("a")
    for _ in range(2):
        assert 'modelhost_running{model="a"} 0.0' in _page(registry)
        child.dec()
