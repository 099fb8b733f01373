"""Dashboards query metrics that exist, and show all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from tests.grafana import exceptions
from tests.grafana.boards import ROOT, families, queries, selectors, series_of

if TYPE_CHECKING:
    from tests.conftest import StartExporter

QUERIED = {each.metric for question in queries() for each in selectors(question)}


def recorded() -> set[str]:
    """Return the names that the recording rules record."""
    rules = yaml.safe_load((ROOT / "prometheus" / "rules" / "recording.yml").read_text())
    return {rule["record"] for group in rules["groups"] for rule in group["rules"]}


def test_every_queried_metric_exists(start_exporter: StartExporter) -> None:
    """Each name is one of the exporter's, recorded, or written by Prometheus; its page has the process metrics."""
    known = set().union(*map(series_of, families())) | recorded() | exceptions.OF_PROMETHEUS
    others = sorted(QUERIED - known)
    assert others
    page = start_exporter().page().decode()
    for name in others:
        assert name.startswith(("process_", "python_")), name
        assert f"\n{name}" in page, name


def test_every_metric_is_shown_or_explained() -> None:
    """A new metric needs a panel, or a reason for having none; a metric with a panel needs no reason."""
    unshown = {family.name for family in families() if not series_of(family) & QUERIED}
    assert unshown == set(exceptions.UNSHOWN)


def test_queried_labels_exist() -> None:
    """A label that a selector of the exporter's families matches on is one that the family has."""
    labels = {
        name: {*family.labels, "cluster", "job", "instance", "le"}
        for family in families()
        for name in series_of(family)
    }
    for question in queries():
        for each in selectors(question):
            if each.metric in labels:
                assert {name for name, *_ in each.matchers} <= labels[each.metric], question


@pytest.mark.parametrize("name", sorted(exceptions.OF_PROMETHEUS))
def test_what_prometheus_makes_is_limited_to_this_exporter(name: str) -> None:
    """Every target has these series, so each is joined with the exporter's build_info, also for All jobs."""
    asking = [
        question
        for question in queries()
        if question.kind != "variable" and name in {each.metric for each in selectors(question)}
    ]
    assert asking
    for question in asking:
        assert "modelhost_build_info" in {each.metric for each in selectors(question)}, question
