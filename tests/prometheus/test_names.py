"""Rules use the names, labels and outcomes of the exporter."""

from __future__ import annotations

import re
from typing import Any, get_args

import pytest

from modelhost_exporter.requests.observation import ERRORS, Outcome
from tests.prometheus.rules import ALERTS, RECORDED, recorded_names, samples, unquoted

SCRAPES = {"up", "scrape_duration_seconds", "process_start_time_seconds"}
"""Series that Prometheus writes about each target, and that every exporter has."""

PROMETHEUS = {
    "prometheus_config_last_reload_successful",
    "prometheus_notifications_dropped_total",
    "prometheus_notifications_errors_total",
    "prometheus_rule_evaluation_failures_total",
    "prometheus_tsdb_compactions_failed_total",
    "prometheus_tsdb_head_truncations_failed_total",
    "prometheus_tsdb_wal_writes_failed_total",
}
"""Metrics of Prometheus itself; a test of a real one checks that it has them."""

TARGET_LABELS = {"cluster", "job", "instance"}

EXPRESSIONS = [*RECORDED.values(), *(rule["expr"] for rule in ALERTS)]
WORDS = {
    *(
        "sum",
        "avg",
        "min",
        "max",
        "by",
        "without",
        "ignoring",
        "group_left",
        "group_right",
        "and",
        "or",
        "unless",
        "offset",
        "h",
        "m",
        "d",
    ),
    *(
        "abs",
        "vector",
        "count",
        "rate",
        "increase",
        "changes",
        "resets",
        "deriv",
        "predict_linear",
        "histogram_quantile",
        "label_replace",
        "clamp_max",
        "clamp_min",
    ),
    *(
        "avg_over_time",
        "min_over_time",
        "max_over_time",
        "sum_over_time",
        "count_over_time",
        "last_over_time",
        "time",
        "timestamp",
    ),
}
"""Every word of PromQL that the rules use: known to Prometheus 2.42, Mimir and VictoriaMetrics alike."""

LABEL_LISTS = r"\b(?:by|without|ignoring|on|group_left)\s*\(([^)]*)\)"

AGGREGATIONS = r"(?<![:\w])(sum|avg|min|max|count|topk|quantile)\b\s*(by|without)?\s*(?:\(([^)]*)\))?"


def _words(expression: str) -> set[str]:
    """Return the names in an expression, less labels, strings and durations."""
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]", "", unquoted(expression))
    return set(re.findall(r"[a-z_][\w:]*", re.sub(LABEL_LISTS, "", bare))) - WORDS


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_series_that_a_rule_reads_exists(expression: str) -> None:
    """Each name is a metric of the exporter, a recorded series, or one that a scrape adds."""
    read = _words(expression)
    assert read or expression == "vector(1)"
    assert read <= set(samples()) | set(RECORDED) | SCRAPES | PROMETHEUS
    assert recorded_names(expression) <= set(RECORDED)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_label_that_a_rule_names_exists(expression: str) -> None:
    """Matchers name labels of their family, and groupings labels of some family in the rule."""
    known = samples()
    for name, matchers in re.findall(r"(modelhost_\w+)\{([^}]*)\}", unquoted(expression)):
        assert set(re.findall(r"(\w+)\s*[=!]", matchers)) <= set(known[name].labels)
    every = {label for family in known.values() for label in family.labels} | {"le"} | TARGET_LABELS
    every |= {"rule_group", "alertmanager"} if "prometheus_" in expression else set()
    for labels in re.findall(LABEL_LISTS, unquoted(expression)):
        assert {label.strip() for label in labels.split(",")} - {""} <= every


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_target_labels_of_the_users_own_take_part_in_joins(expression: str) -> None:
    """No join uses on(job, instance), because two clusters may differ in another label only."""
    assert not re.search(r"\bon\s*\(", unquoted(expression))


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_increases_of_long_ago_raise_no_alert(rule: dict[str, Any]) -> None:
    """increase() starts at 0 in MetricsQL, so that a series that is new to a store may have increased before."""
    raised, *_ = re.split(r"\bunless\b", unquoted(rule["expr"]))
    windows = [int(minutes) for minutes in re.findall(r"increase\([^[]*\[(\d+)m\]", raised)]
    assert raised.count("increase(") == len(windows)
    waits = int(str(rule.get("for", "0m")).removesuffix("m").replace("h", ""))
    assert all(window < waits for window in windows)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_clusters_stay_apart(expression: str) -> None:
    """Every aggregation keeps the label ``cluster``: hosts, servers and models of two clusters may have one name."""
    for operator, modifier, labels in re.findall(AGGREGATIONS, unquoted(expression)):
        assert modifier, (operator, "aggregates over all clusters")
        assert ("cluster" in labels) == (modifier == "by"), (operator, modifier, labels)


@pytest.mark.parametrize("expression", [text for text in EXPRESSIONS if "outcome" in text])
def test_outcomes_are_those_of_the_contract(expression: str) -> None:
    """Errors, successes and ignored outcomes are the exporter's own sets, and requests exclude polls."""
    neither = set(get_args(Outcome)) - ERRORS - {"ok"}
    for operator, value in re.findall(r'outcome(=~|!~|=)"([^"]+)"', expression):
        if operator == "!~":
            assert set(value.split("|")) - {"ok"} == neither
        else:
            assert set(value.split("|")) <= set(get_args(Outcome))


def test_requests_leave_polls_out_everywhere() -> None:
    """Every expression on a family with operation "other" excludes it."""
    for name in ("requests_total", "request_duration_seconds_\\w+", "requests_in_flight"):
        found = [match for text in EXPRESSIONS for match in re.findall(rf"\bmodelhost_{name}(.{{0,20}})", text)]
        assert found
        assert [rest for rest in found if not rest.startswith('{operation!="other"')] == []
