"""Every alert has complete annotations, and tests in which it fires and does not fire."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.grafana.boards import BOARDS
from tests.prometheus.rules import (
    ALERTS,
    FOLDER,
    RECORDED,
    TESTS,
    Alert,
    alert,
    read,
    recorded_names,
    samples,
    unquoted,
)

AREAS = {"exporter", "watchdog", "prometheus", "host", "gpu_hardware", "gpu_use", "model"}
WITHOUT_DASHBOARD = {"watchdog", "prometheus"}
"""Areas that none of the dashboards shows."""
SEVERITIES = {"critical", "warning", "info"}
DASHBOARDS = {"exporter", "host", "gpu", "models", "model-servers"}


def _shipped(rule: dict[str, Any]) -> Alert:
    return alert(rule["alert"], rule["labels"])


CLUSTER = "?{{ with $labels.cluster }}var-cluster={{ . | urlquery }}&{{ end }}"
"""The beginning of each link's variables: two clusters may have hosts of one name."""

SHIPPED = [_shipped(rule) for rule in ALERTS]


def _headings() -> set[str]:
    """Return the anchors of the runbook, as web pages make them from headings."""
    titles = re.findall(r"^#+ (.+)$", (FOLDER / "runbook.md").read_text(), re.MULTILINE)
    return {title.lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: "-".join(filter(None, _shipped(rule))))
def test_an_alert_has_complete_annotations(rule: dict[str, Any]) -> None:
    """Severity, area, summary, description, a heading of the runbook and a dashboard that exists."""
    assert rule["labels"]["severity"] in SEVERITIES
    assert rule["labels"]["area"] in AREAS
    annotations = rule["annotations"]
    assert set(annotations) - {"dashboard"} == {"summary", "description", "runbook_url"}
    assert ("dashboard" in annotations) == (rule["labels"]["area"] not in WITHOUT_DASHBOARD)
    assert "$labels.instance" in annotations["summary"] or rule["labels"]["area"] == "watchdog"
    assert annotations["description"].endswith(".")
    document, _, heading = annotations["runbook_url"].partition("#")
    assert document == "prometheus/runbook.md"
    assert heading == rule["alert"].lower()
    assert heading in _headings()
    if "dashboard" not in annotations:
        return
    assert CLUSTER in annotations["dashboard"]
    link = re.fullmatch(
        r"/d/modelhost-([a-z-]+)\?(var-\w+=\{\{ \$labels\.\w+ \| urlquery \}\}&?)+",
        annotations["dashboard"].replace(CLUSTER, "?"),
    )
    assert link is not None
    assert link[1] in DASHBOARDS


@pytest.mark.parametrize(
    "rule",
    [rule for rule in ALERTS if "dashboard" in rule["annotations"]],
    ids=lambda rule: "-".join(filter(None, _shipped(rule))),
)
def test_an_alerts_link_selects_its_labels(rule: dict[str, Any]) -> None:
    """Each variable in it is one of that dashboard, and lists the label's values in metrics of the alert's kind."""
    board, _, variables_set = rule["annotations"]["dashboard"].removeprefix("/d/modelhost-").partition("?")
    variables = {one["name"]: one for one in BOARDS[board]["templating"]["list"]}
    assert "cluster" in variables
    variables_set = variables_set.removeprefix(CLUSTER.removeprefix("?"))
    for variable, label in re.findall(r"var-(\w+)=\{\{ \$labels\.(\w+)", variables_set):
        query = variables[variable]["query"]["query"]
        listed = re.fullmatch(r"label_values\((modelhost_[a-z]+)\w*[,{].* (\w+)\)", query)
        ordered = re.match(r"query_result\(sort_desc\(sum by \((\w+)\)", query)
        assert (listed[2] if listed else ordered and ordered[1]) == label
        if label == "device":
            assert listed is not None
            assert listed[1] in rule["expr"]


def test_alerts_differ() -> None:
    """No two alerts have the same name, severity and window."""
    assert len(set(SHIPPED)) == len(SHIPPED)


def test_the_runbook_has_no_heading_of_an_alert_that_is_gone() -> None:
    """Each third-level heading is the name of an alert."""
    names = re.findall(r"^### (\w+)$", (FOLDER / "runbook.md").read_text(), re.MULTILINE)
    assert sorted(names) == sorted({shipped.name for shipped in SHIPPED})


def _tested() -> tuple[set[Alert], set[Alert]]:
    """Return the alerts that some promtool test expects, and those that some test expects not to fire."""
    firing: set[Alert] = set()
    quiet: set[Alert] = set()
    for test in (test for path in TESTS for test in read(path)["tests"]):
        cases = test.get("alert_rule_test", ())
        watched = {case["alertname"] for case in cases}
        expected = {alert(case["alertname"], a["exp_labels"]) for case in cases for a in case["exp_alerts"]}
        assert test["name"].startswith("fires" if expected else "quiet") or not cases or "quiet for" in test["name"]
        firing |= expected
        quiet |= {shipped for shipped in SHIPPED if shipped.name in watched} - expected
    return firing, quiet


def test_every_alert_fires_in_one_test_and_stays_quiet_in_another() -> None:
    """Both cases exist for every alert, each severity and window of its own."""
    firing, quiet = _tested()
    assert firing == set(SHIPPED)
    assert set(SHIPPED) - quiet == {Alert("Watchdog", "info", "")}


def test_every_recording_rule_is_checked_on_numbers() -> None:
    """Each recorded series is expected with a value in some promtool test."""
    checked: set[str] = set()
    for test in (test for path in TESTS for test in read(path)["tests"]):
        for case in test.get("promql_expr_test", ()):
            if case["exp_samples"]:
                checked |= recorded_names(case["expr"])
    assert checked == set(RECORDED)


REPLICATED = {name for name, family in samples().items() if "upstream" in family.labels}


def _metrics(expression: str) -> set[str]:
    """Return the families with the label ``upstream`` whose samples an expression reads."""
    return REPLICATED & set(re.findall(r"\bmodelhost_\w+", unquoted(expression)))


def test_rules_that_read_replicas_are_tested_with_two() -> None:
    """Each alert and recording rule on a family with the label ``upstream`` has a test in which it has two values."""
    reading = {rule["alert"] for rule in ALERTS if _metrics(rule["expr"])}
    reading |= {name for name, expr in RECORDED.items() if _metrics(expr)}
    assert {"ModelServerDown", "ModelQueueGrowing", "GpuIdleWithModel", "ProxyUpstreamEjected"} <= reading
    tested: set[str] = set()
    for test in (test for path in TESTS for test in read(path)["tests"]):
        upstreams = re.findall(r'upstream="([^"]+)"', " ".join(each["series"] for each in test["input_series"]))
        if len(set(upstreams)) > 1:
            tested |= {case["alertname"] for case in test.get("alert_rule_test", ()) if case["exp_alerts"]}
            tested |= {name for case in test.get("promql_expr_test", ()) for name in recorded_names(case["expr"])}
    assert reading <= tested


def test_alerts_on_replicas_name_the_upstream() -> None:
    """A summary names it where the alert keeps the label."""
    kept = {
        f"{name}-warning"
        for name in (
            *("ModelServerDown", "ModelQueueGrowing", "ModelQueueLong", "ProxyUpstreamEjected"),
            *("ModelServerPollIncomplete", "ModelProbeFailing"),
        )
    }
    naming = {
        f"{rule['alert']}-{rule['labels']['severity']}"
        for rule in ALERTS
        if "$labels.upstream" in rule["annotations"]["summary"]
    }
    assert naming == kept
