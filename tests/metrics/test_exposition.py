"""Content negotiation and rendering."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector
from prometheus_client.metrics_core import Metric

from modelhost_exporter.metrics.exposition import OPENMETRICS, TEXT, Format, accepts_gzip, negotiate
from modelhost_exporter.metrics.families import histogram
from modelhost_exporter.metrics.instruments import live_histogram
from tests.support.fakes import Fixed

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
    "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        (BROWSER, TEXT),
        (PROMETHEUS_2, OPENMETRICS),
        (PROMETHEUS_3, OPENMETRICS),
        ("text/plain", TEXT),
        ("text/plain;version=0.0.4;q=0.3,*/*;q=0.2", TEXT),
        ("application/openmetrics-text", OPENMETRICS),
        ('Application/OpenMetrics-Text; version="1.0.0"', OPENMETRICS),
        ("application/openmetrics-text;q=0", TEXT),
        ("application/openmetrics-text;q=0.4,text/plain;q=0.5", TEXT),
        ("application/openmetrics-text;q=0.5,text/plain;q=0.5", OPENMETRICS),
        ("application/openmetrics-text;q=0.5,text/*;q=0.9", TEXT),
        ("text/plain;q=0,*/*", OPENMETRICS),
        ("application/openmetrics-text;version=0.0.1", TEXT),
        ("application/openmetrics-text;version=2.0.0,text/plain;q=0.1", TEXT),
        ("application/*", OPENMETRICS),
        ("image/png", TEXT),
        ("application/openmetrics-text;q=high,text/plain;q=0.1", TEXT),
        (";;;,=,q=1,", TEXT),
    ],
)
def test_the_format_with_the_highest_quality_is_chosen(accept: str, expected: Format) -> None:
    """q-values decide, the most specific media range counts, q=0 forbids, and text is the fallback."""
    assert negotiate(accept) is expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("gzip", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("deflate, GZIP;q=0.5", True),
        ("*", True),
        ("gzip;q=0, *", False),
    ],
)
def test_gzip_is_used_where_it_is_accepted(header: str, *, expected: bool) -> None:
    """By the q-values of Accept-Encoding: a wildcard counts, and q=0 forbids."""
    assert accepts_gzip(header) is expected


@pytest.mark.parametrize("format_", [TEXT, OPENMETRICS])
def test_a_page_is_what_prometheus_client_writes(format_: Format) -> None:
    """Every character that needs escaping and every kind of number is rendered like prometheus_client does."""
    registry = CollectorRegistry()
    GCCollector(registry=registry)
    PlatformCollector(registry=registry)
    live_histogram(histogram("seconds", "Some.", (1.0, 5.0), "model"), registry).labels("a").observe(2.0)
    odd = Metric("odd", 'back\\slash, "quotes"\nand a line', "gauge")
    for value in (0, -1.5, 1e6, 123456789.25, 1e300, float("inf"), float("-inf"), float("nan")):
        odd.add_sample("odd", {"z": 'a"b\\c\nd', "a": "\u00fc\U0001f600", "value": str(value)}, value)
    odd.add_sample("odd", {}, 1.0)

    families = Fixed(*registry.collect(), odd)
    assert format_.page([format_.render(list(families.collect()))]) == format_.generate(families)  # type: ignore[arg-type]
