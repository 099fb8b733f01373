"""Names of models, servers and devices that are no identifiers, in every variable, query and link of the dashboards."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from grafana.board import MODEL
from tests.grafana.boards import BOARDS
from tests.support import past
from tools import dashboard_queries as query
from tools.dashboard_queries import Question, View

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = [
    *("a|plain", "plain", "Qwen2.5-Coder (Q4_K_M)+lora", r"C:\models\x.gguf", "it's", 'the "best"', "llama3.2:3b"),
    *("$model", "{{model}}", "org/[x]*?", "модель", "a b", "^start$"),
]
"""From the busiest to the one with the least traffic."""
MINUTES, END = 10, time.time() // 60 * 60
BEGIN = END - MINUTES * 60
VIEW = View(BEGIN, END)


def quoted(text: str) -> str:
    """Return a label's value as OpenMetrics writes it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def samples() -> Iterator[str]:
    """Yield ten minutes of requests to each model, by servers of the same names, as OpenMetrics text."""
    others = {"other": 500, "unknown": 400, "back`tick": 1000}
    speeds = {name: len(NAMES) - number for number, name in enumerate(NAMES)} | others
    for name, speed in sorted(speeds.items()):
        labels = (
            f'job="modelhost",instance="a",server={quoted(name)},model={quoted(name)},operation="chat",outcome="ok"'
        )
        for step in range(MINUTES * 4 + 1):
            yield f"modelhost_requests_total{{{labels}}} {speed * 15 * step} {BEGIN + 15 * step:.0f}"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[query.Prometheus]:
    """Start a real Prometheus with these names."""
    folder = tmp_path_factory.mktemp("prometheus")
    past.blocks(folder, (f"{line}\n".encode() for line in ("# TYPE modelhost_requests counter", *samples())))
    with past.serving(folder) as server:
        yield server.api


def with_models() -> list[dict[str, Any]]:
    """Return the dashboards that have a model selected."""
    return [board for board in BOARDS.values() if any(each["name"] == "model" for each in board["templating"]["list"])]


def the(board: dict[str, Any], kind: str, where: str) -> Question:
    """Return a query of a dashboard."""
    (found,) = (each for each in query.questions(board) if (each.kind, each.where) == (kind, where))
    return found


@pytest.mark.parametrize("board", with_models(), ids=lambda board: board["uid"])
def test_models_are_listed_by_traffic(api: query.Prometheus, board: dict[str, Any]) -> None:
    """The busiest is first and so selected; names that stand for several models are last, whatever their traffic."""
    listed = query.ask(api, the(board, "variable", "model"), VIEW)  # without the one that no query can contain
    assert listed[:-2] == NAMES
    assert {*listed[-2:]} == {"other", "unknown"}
    assert query.opened(api, board, VIEW).chosen == {"model": [NAMES[0]]}


@pytest.mark.parametrize("name", NAMES)
def test_one_model_is_that_model(api: query.Prometheus, name: str) -> None:
    """Its panels show it alone, and each query with its name is understood."""
    view = replace(VIEW, chosen={"model": [name]})
    for title, panel in (("overview", "Requests/s A"), ("models", "Outcomes A")):
        (series,) = query.ask(api, the(BOARDS[title], "panel", panel), view)
        value = series["value"] if "value" in series else series["values"][-1]
        assert float(value[1]) == pytest.approx(len(NAMES) - NAMES.index(name), rel=0.01)
    for board in with_models():
        for question in query.questions(board):
            if MODEL.name in question.expr:
                query.ask(api, question, view)


@pytest.mark.parametrize("board", with_models(), ids=lambda board: board["uid"])
def test_a_single_value_is_compared_as_it_is(board: dict[str, Any]) -> None:
    """Grafana escapes nothing in the value of a variable that has one: no query puts it into a regular expression."""
    alone = [each["name"] for each in board["templating"]["list"] if each["type"] == "query" and not each["multi"]]
    assert alone == ["model"]
    used = [use for each in query.questions(board) for use in re.findall(r"\w+\W+\$\{?model\b[^,}]*.?.", each.expr)]
    assert {*used} == {"model=`${model:raw}`"}


@pytest.mark.parametrize("name", [name for name in NAMES if '"' not in name])
def test_several_values_match_those_values(api: query.Prometheus, name: str) -> None:
    """A variable of several values, such as the servers, matches each as it is."""
    question = the(BOARDS["models"], "panel", "Requests/s A")
    expr = 'sum by (server) (rate(modelhost_requests_total{server=~"$server"}[$__rate_interval]))'
    for servers in ([name], [name, "other"]):
        found = query.ask(api, replace(question, expr=expr), replace(VIEW, chosen={"server": servers}))
        assert {series["metric"]["server"] for series in found} == {*servers}


def test_links_carry_only_labels_that_are_always_there() -> None:
    """No link carries the cluster itself; its stand-in is text, since Grafana shows no other text as a number."""
    assert not re.search(r'__data.fields\[\\?"[Cc]luster|__field.labels.cluster', json.dumps(BOARDS))
    carried = 0
    for board in BOARDS.values():
        for panel in query.panels(board):
            if panel["type"] == "table" and "chosen_cluster" in json.dumps(panel["fieldConfig"]):
                overrides = panel["fieldConfig"]["overrides"]
                (own,) = (each for each in overrides if each["matcher"]["options"] == "chosen_cluster")
                properties = {each["id"]: each["value"] for each in own["properties"]}
                assert properties == {"unit": "string", "mappings": [], "custom.hidden": True}, panel["title"]
                carried += 1
    assert carried == 3


def test_links_encode_names() -> None:
    """Every value of a row that a link carries is percent-encoded."""
    carried = re.findall(r"\$\{__(?:data|field)[^}]*\}", json.dumps(BOARDS))
    assert carried
    assert all(each.endswith(":percentencode}") for each in carried)
