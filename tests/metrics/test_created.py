"""Creation times: on OpenMetrics pages only, and with them Prometheus counts what a new series begins with."""

from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, disable_created_metrics, enable_created_metrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from modelhost_exporter.metrics.exposition import OPENMETRICS, OPENMETRICS_WITH_CREATED, TEXT, Format, negotiate
from modelhost_exporter.metrics.families import counter, gauge, histogram
from modelhost_exporter.metrics.instruments import live_counter, live_gauge, live_histogram
from tests.support.programs import built
from tests.support.prometheus_server import running_prometheus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ACCEPT = "application/openmetrics-text;version=1.0.0"


@pytest.fixture
def registry() -> CollectorRegistry:
    """Return a counter with two series, one that is expected, a gauge and a histogram."""
    registry = CollectorRegistry()
    errors = live_counter(counter("errors", "Some.", "model"), registry, lambda: [("a",), ("expected",)])
    errors.labels("a").inc()
    errors.labels("b").inc(13)
    live_gauge(gauge("running", "Some."), registry).labels().set(1)
    live_histogram(histogram("seconds", "Some.", (0.1, 1), "model"), registry).labels("a").observe(0.2)
    return registry


def _page(registry: CollectorRegistry, format_: Format) -> str:
    return format_.page([format_.render(list(registry.collect()))]).decode()


def test_creation_times_follow_each_series(registry: CollectorRegistry) -> None:
    """As prometheus_client writes them; a series that was never used has none, nor has a gauge."""
    page = _page(registry, OPENMETRICS_WITH_CREATED)
    lines = [line.partition(" ")[0] for line in page.splitlines() if not line.startswith("#")]
    assert lines == [
        'modelhost_errors_total{model="a"}',
        'modelhost_errors_created{model="a"}',
        'modelhost_errors_total{model="b"}',
        'modelhost_errors_created{model="b"}',
        'modelhost_errors_total{model="expected"}',
        "modelhost_running",
        'modelhost_seconds_bucket{le="0.1",model="a"}',
        'modelhost_seconds_bucket{le="1.0",model="a"}',
        'modelhost_seconds_bucket{le="+Inf",model="a"}',
        'modelhost_seconds_count{model="a"}',
        'modelhost_seconds_sum{model="a"}',
        'modelhost_seconds_created{model="a"}',
    ]
    families = text_string_to_metric_families(page)  # type: ignore[no-untyped-call] # has no types
    assert len(list(families)) == 3


def test_the_page_is_that_of_the_reference() -> None:
    """The same lines as prometheus_client's, but for the times themselves."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    live_counter(counter("requests", "Some.", "model"), ours).labels("a").inc(2)
    enable_created_metrics()  # type: ignore[no-untyped-call] # has no types
    try:
        prometheus_client.Counter("modelhost_requests", "Some.", ["model"], registry=theirs).labels("a").inc(2)
        reference = OPENMETRICS.generate(theirs).decode()  # type: ignore[arg-type] # takes any collector
    finally:
        disable_created_metrics()  # type: ignore[no-untyped-call] # has no types
    pages = [
        re.sub(r"(_created\S*) \S+", r"\1 TIME", page) for page in (_page(ours, OPENMETRICS_WITH_CREATED), reference)
    ]
    assert pages[0] == pages[1]
    assert "_created" in pages[0]


@pytest.mark.parametrize("format_", [TEXT, OPENMETRICS], ids=["text", "openmetrics"])
def test_other_pages_have_none(registry: CollectorRegistry, format_: Format) -> None:
    """They would be further series of a scraper that does not read them."""
    assert "_created" not in _page(registry, format_)


def test_only_openmetrics_has_them() -> None:
    """Text is the same with and without the setting."""
    assert negotiate(ACCEPT, created=True) is OPENMETRICS_WITH_CREATED
    assert negotiate(ACCEPT) is OPENMETRICS
    assert negotiate("text/plain", created=True) is TEXT


@pytest.fixture
def target(registry: CollectorRegistry) -> Iterator[str]:
    """Yield the address of a page with creation times, whose series ``late`` begins at 13 with the fifth scrape."""
    late = live_counter(counter("late", "Some."), CollectorRegistry())
    served = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.append(self.path)
            if len(served) == 5:
                registry.register(late)
                late.labels().inc(13)
            body = _page(registry, OPENMETRICS_WITH_CREATED).encode()
            self.send_response(200)
            self.send_header("Content-Type", OPENMETRICS.content_type)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            """Write nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_prometheus_counts_what_a_series_begins_with(target: str, tmp_path: Path) -> None:
    """A series that is born at 13 increases by 13; the times are no series of their own."""
    flags = ("--enable-feature=created-timestamp-zero-ingestion",)
    with running_prometheus(
        target, tmp_path, binary=built("prometheus"), flags=flags, scrape_protocols=["OpenMetricsText1.0.0"]
    ) as prometheus:
        prometheus.wait_for("modelhost_late_total")
        born = prometheus.value("max_over_time(modelhost_late_total[5m]) - min_over_time(modelhost_late_total[5m])")
        assert born == 13
        assert prometheus.query('{__name__=~"modelhost_.*_created"}') == []
