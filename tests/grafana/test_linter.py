"""The rules of grafana/dashboard-linter 0.2 (a Go program), and the rules of this project."""

from __future__ import annotations

import re
from typing import Any

import promql_parser
import pytest

from tests.grafana import exceptions
from tests.grafana.boards import BOARDS, RANGE, RATE_INTERVAL, parsed, queries, selectors
from tools import dashboard_queries as query

RATES = {"rate", "irate", "increase"}
# of Grafana's units those that the dashboards use
UNITS = {
    *("bool_yes_no", "Bps", "bytes", "celsius", "dtdurations", "hertz", "joule", "none", "percentunit", "rotrpm", "s"),
    *("string", "suffix:ops/s", "suffix:packets/s", "suffix:req/s", "suffix:tok/s", "watt"),
}
QUERIES = list(queries())

boards = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the panels of a dashboard that are no rows."""
    return list(query.panels(board))


def variable(board: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a variable of a dashboard."""
    found = [variable for variable in board["templating"]["list"] if variable["name"] == name]
    assert len(found) == 1, name
    return dict(found[0])


def place(question: query.Question) -> tuple[str, str]:
    """Return where a query stands, as exceptions name it."""
    return question.board, question.where[:-2] if question.kind == "panel" else question.where


@boards
def test_template_datasource(board: dict[str, Any]) -> None:
    """template-datasource-rule: one datasource variable, named and labelled as usual; nothing to fill in by hand."""
    sources = [variable for variable in board["templating"]["list"] if variable["type"] == "datasource"]
    assert [(source["name"], source["label"], source["query"]) for source in sources] == [
        ("datasource", "Data source", "prometheus")
    ]
    assert "__inputs" not in board


@boards
@pytest.mark.parametrize("name", ["job", "instance"])
def test_template_job_and_instance(board: dict[str, Any], name: str) -> None:
    """template-job-rule, template-instance-rule: query variables, several values allowed, All matches anything."""
    found = variable(board, name)
    assert found["type"] == "query"
    assert found["datasource"]["uid"] == "${datasource}"
    assert found["label"] == name.title()
    assert (found["multi"], found["includeAll"], found["allValue"]) == (True, True, ".+")


@boards
def test_template_label_promql_and_reload(board: dict[str, Any]) -> None:
    """template-label-promql-rule, template-on-time-change-reload: a known function, refreshed on time range change."""
    found = [variable for variable in board["templating"]["list"] if variable["type"] == "query"]
    assert found
    for each in found:
        called = re.fullmatch(r"label_values\((.+), \w+\)|query_result\((.+)\)", each["query"]["query"])
        assert called, each["name"]
        promql_parser.parse((called[1] or called[2]).replace("$__range", "1h"))
        assert each["refresh"] == 2
        assert each["definition"] == each["query"]["query"]


@boards
def test_uneditable_and_settings(board: dict[str, Any]) -> None:
    """uneditable-dashboard, and further settings: schema, tag, refresh, links that keep time and variables."""
    assert board["editable"] is False
    assert board["schemaVersion"] == 41
    assert board["tags"] == ["modelhost"]
    assert board["refresh"] == "30s"
    assert {"1s", "2s", "5s"} <= set(board["timepicker"]["refresh_intervals"])
    (link,) = board["links"]
    assert (link["type"], link["asDropdown"], link["tags"]) == ("dashboards", True, ["modelhost"])
    assert link["includeVars"]
    assert link["keepTime"]


@boards
def test_panel_datasource(board: dict[str, Any]) -> None:
    """panel-datasource-rule, panel-no-targets-rule: the datasource variable in the panel and in each of its queries."""
    for panel in panels(board):
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["targets"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
        refs = [target["refId"] for target in panel["targets"]]
        assert refs == [chr(ord("A") + index) for index in range(len(refs))]


@boards
def test_panel_title_description(board: dict[str, Any]) -> None:
    """panel-title-description-rule: both are there, and the description contains what is good."""
    for panel in panels(board):
        assert panel["title"]
        assert "good" in panel["description"].lower(), panel["title"]


@boards
def test_panel_units(board: dict[str, Any]) -> None:
    """panel-units-rule: a unit of Grafana on every panel and in every override."""
    for panel in panels(board):
        overrides = panel["fieldConfig"]["overrides"]
        own = [each["value"] for override in overrides for each in override["properties"] if each["id"] == "unit"]
        assert {panel["fieldConfig"]["defaults"]["unit"], *own} <= UNITS, panel["title"]


@boards
def test_a_panel_without_data_has_a_text(board: dict[str, Any]) -> None:
    """Each panel has a text for hosts without its data, such as "No GPU detected"."""
    for panel in panels(board):
        words = panel["fieldConfig"]["defaults"]["noValue"]
        assert words
        queried = " ".join(target["expr"] for target in panel["targets"])
        if board["uid"] in ("modelhost-gpu", "modelhost-overview") and queried.startswith(
            "max by (instance, gpu) (modelhost_gpu"
        ):
            assert "No GPU" in words or "No XID" in words


@boards
def test_legends_are_sorted_by_value(board: dict[str, Any]) -> None:
    """The highest series is first in the legend and in the tooltip."""
    for panel in panels(board):
        if panel["type"] == "timeseries":
            legend = panel["options"]["legend"]
            if legend["displayMode"] == "table":
                assert (legend["sortBy"], legend["sortDesc"]) == ("Last *", True)
                assert legend["calcs"][0] == "lastNotNull"
            assert panel["options"]["tooltip"]["sort"] == "desc"


def test_target_promql() -> None:
    """target-promql-rule: every query is PromQL, of a panel, a variable or an annotation."""
    assert len(QUERIES) > 300
    for question in QUERIES:
        assert parsed(question).prettify(), question
        assert selectors(question), question


def test_target_rate_interval() -> None:
    """target-rate-interval-rule: rates use $__rate_interval, save where a reason is on the list."""
    others = {
        (place(question), each.range)
        for question in QUERIES
        for each in selectors(question)
        if each.function in RATES and each.range != RATE_INTERVAL
    }
    assert {where for where, _ in others} == set(exceptions.WINDOWS)
    assert {window for _, window in others} == {RANGE}


def test_target_job_and_instance() -> None:
    """target-job-rule, target-instance-rule: each selector is limited to the selected job and instance."""
    without = set()
    for question in QUERIES:
        for each in selectors(question):
            names = {name for name, _, value in each.matchers if value == ".+"}
            if question.kind == "variable" and question.where in exceptions.VARIABLES_THAT_SCOPE:
                continue
            assert "job" in names, question
            if "instance" not in names:
                without.add(place(question))
    assert without == set(exceptions.NO_INSTANCE)


def test_target_counter_agg() -> None:
    """target-counter-agg-rule: a counter is shown as a rate or an increase, never as it is."""
    for question in QUERIES:
        if question.kind != "panel":
            continue
        for each in selectors(question):
            if each.metric.endswith("_total") and each.metric not in exceptions.SHOWN_AS_THEY_ARE:
                assert each.function in RATES, question


def test_a_heatmap_gets_its_buckets() -> None:
    """Heatmaps query rates summed by le alone, in Grafana's heatmap format, and let Grafana calculate nothing."""
    found = [panel for board in BOARDS.values() for panel in panels(board) if panel["type"] == "heatmap"]
    assert len(found) >= 7
    for panel in found:
        (target,) = panel["targets"]
        assert target["format"] == "heatmap"
        assert target["expr"].startswith("sum by (le) (")
        assert panel["options"]["calculate"] is False
