"""A Prometheus is examined: a real one with mistakes, and answers of one that cannot be had here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from modelhost_exporter.doctor import prometheus_checks
from modelhost_exporter.export import shipped
from tests.support.programs import free_port
from tests.support.prometheus_server import running_prometheus
from tests.support.stand_in import standing_in, status

if TYPE_CHECKING:
    from pathlib import Path

    from modelhost_exporter.doctor.findings import Finding
    from tests.conftest import StartExporter

RULES = shipped.folder("prometheus/rules", "*.yml")
CONVERTS = "convert_classic_histograms_to_nhcb: true"
ONE_RULE = {"x.yml": "groups: [{name: g, rules: [{record: a, expr: b}, {alert: C, expr: d}]}]"}


def problems(url: str, rules: dict[str, str] | None = None) -> list[Finding]:
    """Return the problems of the Prometheus at a URL."""
    found = prometheus_checks.check(url, RULES if rules is None else rules)
    return [finding for finding in found if finding.state == "problem"]


def served(settings: str, targets: list[Any] | None = None, groups: list[Any] | None = None) -> dict[str, Any]:
    """Return the pages of a Prometheus that has scraped an exporter as the job m."""

    def page(data: object) -> bytes:
        return json.dumps({"status": "success", "data": data}).encode()

    return {
        "/api/v1/query?query=modelhost_build_info": page({"result": [{"metric": {"job": "m", "instance": "a"}}]}),
        "/api/v1/status/config": page({"yaml": settings}),
        "/api/v1/targets?state=active": page({"activeTargets": targets or []}),
        "/api/v1/rules": page({"groups": groups or []}),
    }


def test_a_real_prometheus_without_rules(start_exporter: StartExporter, tmp_path: Path) -> None:
    """What it lacks is named, and how to get it; the interval is said."""
    exporter = start_exporter()
    with running_prometheus(exporter.address, tmp_path) as server:
        server.wait_for("modelhost_build_info")
        found = list(prometheus_checks.check(server.url, RULES))
    assert [(each.state, each.kind, each.name) for each in found] == [
        ("ok", "job", "modelhost"),
        *(("problem", "rules", name) for name in RULES),
    ]
    assert found[0].detail.startswith("scraped every 200ms: Grafana's data source needs this")
    assert "modelhost-exporter export rules DIR" in found[1].detail


def test_a_real_prometheus_that_scrapes_nothing(tmp_path: Path) -> None:
    """No exporter was ever scraped; nothing else is said then."""
    with running_prometheus(f"127.0.0.1:{free_port()}", tmp_path) as server:
        (found,) = prometheus_checks.check(server.url, RULES)
    assert "no exporter" in found.detail


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("scrape_configs: [{job_name: m, scrape_interval: 15s}]", []),
        (
            "global: {convert_classic_histograms_to_nhcb: true}\nscrape_configs: [{job_name: m}]",
            ["add always_scrape_classic_histograms"],
        ),
        (
            "scrape_configs: [{job_name: m, " + CONVERTS + ", always_scrape_classic_histograms: true}]",
            [],
        ),
        ("scrape_configs: [{job_name: m, honor_labels: true}]", ["honor_labels lets series replace"]),
        ("scrape_configs: [{job_name: other, honor_labels: true}]", []),
    ],
)
def test_settings_of_a_job(settings: str, said: list[str]) -> None:
    """Of the job that scrapes exporters only, and of all jobs where the job has none of its own."""
    with standing_in(served(settings)) as server:
        found = problems(server.url, {})
    assert len(found) == len(said)
    assert all(text in each.detail for text, each in zip(said, found, strict=True))


def test_targets_that_are_down_or_scraped_twice() -> None:
    """Of the exporters' jobs only."""

    def target(url: str, job: str = "m", **more: str) -> dict[str, Any]:
        return {"labels": {"job": job}, "scrapeUrl": url, "health": "up", **more}

    targets = [
        target("http://a:1/metrics"),
        target("http://a:1/metrics"),
        target("http://b:1/metrics", health="down", lastError="connection refused"),
        target("http://c:1/metrics", job="node", health="down"),
    ]
    with standing_in(served("scrape_configs: []", targets)) as server:
        found = problems(server.url, {})
    assert [(each.name, each.detail) for each in found] == [
        ("http://b:1/metrics", "connection refused"),
        ("http://a:1/metrics", "2 jobs or entries scrape it: sums count it 2 times"),
    ]


def test_rules_that_fail_or_are_not_loaded() -> None:
    """By the names in the shipped files."""
    groups = [{"rules": [{"name": "a", "health": "err", "lastError": "many-to-many"}, {"name": "z", "health": "ok"}]}]
    with standing_in(served("scrape_configs: []", groups=groups)) as server:
        found = problems(server.url, ONE_RULE)
    assert [(each.kind, each.name) for each in found] == [("rule", "a"), ("rules", "x.yml")]
    assert found[1].detail.startswith("not loaded: C:")
    groups[0]["rules"] = [{"name": "a", "health": "ok"}, {"name": "C", "health": "ok"}]
    with standing_in(served("scrape_configs: []", groups=groups)) as server:
        assert problems(server.url, ONE_RULE) == []


@pytest.mark.parametrize(
    "pages",
    [
        {},
        {"/api/v1/query?query=modelhost_build_info": b"<html>"},
        {"/api/v1/query?query=modelhost_build_info": b'{"data": []}'},
        {"/api/v1/query?query=modelhost_build_info": b'{"data": {"result": [7]}}'},
        {"/api/v1/query?query=modelhost_build_info": status(401)},
        {**served("[: not yaml")},
        {**served("scrape_configs: [7]")},
    ],
)
def test_what_is_no_prometheus_is_one_problem(pages: dict[str, Any]) -> None:
    """Another program, one that needs a password, or answers of a form that is not known."""
    with standing_in(pages) as server:
        (found,) = problems(server.url)
    assert found.detail.startswith("it does not respond as a Prometheus")


def test_nothing_listens() -> None:
    """The reason is that of any other server."""
    (found,) = problems(f"http://127.0.0.1:{free_port()}")
    assert "nothing listens there" in found.detail
