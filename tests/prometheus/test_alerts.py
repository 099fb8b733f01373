"""Every alert has complete annotations, and tests in which it fires and does not fire."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.grafana.boards import BOARDS
from tests.prometheus.rules import ALERTS, FOLDER, RECORDED, TESTS, Alert, alert, read, recorded_names

AREAS = {"exporter", "host", "gpu_hardware", "gpu_use", "model"}
SEVERITIES = {"critical", "warning", "info"}
DASHBOARDS = {"exporter", "host", "gpu", "models", "model-servers"}


def _shipped(rule: dict[str, Any]) -> Alert:
    return alert(rule["alert"], rule["labels"])


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
    assert set(annotations) == {"summary", "description", "runbook_url", "dashboard"}
    assert "$labels.instance" in annotations["summary"]
    assert annotations["description"].endswith(".")
    document, _, heading = annotations["runbook_url"].partition("#")
    assert document == "prometheus/runbook.md"
    assert heading == rule["alert"].lower()
    assert heading in _headings()
    link = re.fullmatch(
        r"/d/modelhost-([a-z-]+)\?(var-\w+=\{\{ \$labels\.\w+ \| urlquery \}\}&?)+", annotations["dashboard"]
    )
    assert link is not None
    assert link[1] in DASHBOARDS


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: "-".join(filter(None, _shipped(rule))))
def test_an_alerts_link_selects_its_labels(rule: dict[str, Any]) -> None:
    """Each variable in it is one of that dashboard, and lists the label's values in metrics of the alert's kind."""
    board, _, variables_set = rule["annotations"]["dashboard"].removeprefix("/d/modelhost-").partition("?")
    variables = {one["name"]: one for one in BOARDS[board]["templating"]["list"]}
    for variable, label in re.findall(r"var-(\w+)=\{\{ \$labels\.(\w+)", variables_set):
        listed = re.fullmatch(
            r"label_values\((modelhost_[a-z]+)\w*[,{].* (\w+)\)", variables[variable]["query"]["query"]
        )
        assert listed is not None
        assert listed[2] == label
        if label == "device":
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
    assert quiet == set(SHIPPED)


def test_every_recording_rule_is_checked_on_numbers() -> None:
    """Each recorded series is expected with a value in some promtool test."""
    checked: set[str] = set()
    for test in (test for path in TESTS for test in read(path)["tests"]):
        for case in test.get("promql_expr_test", ()):
            if case["exp_samples"]:
                checked |= recorded_names(case["expr"])
    assert checked == set(RECORDED)
