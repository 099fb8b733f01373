"""Dashboards and rules put the replicas of a server together as their families declare."""

from __future__ import annotations

import json
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import promql_parser
import pytest

from grafana.engine_queries import together
from tests.grafana.boards import BOARDS, families, parsed, queries, series_of
from tests.prometheus.rules import ALERTS, RECORDED
from tests.support.pages import pages
from tests.support.programs import fetch, wait_until
from tests.support.prometheus_server import running_prometheus
from tests.support.stand_in import StandIn, standing_in
from tools import dashboard_queries as query
from tools.dashboard_queries import View

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import StartExporter
    from tests.support.prometheus_server import Prometheus
    from tools.dashboard_queries import Question

COMBINE = {name: family.combine for family in families() for name in series_of(family) if family.combine}


def aggregations(
    node: promql_parser.Expr, within: promql_parser.AggregateExpr | None = None
) -> Iterator[tuple[str, promql_parser.AggregateExpr | None]]:
    """Yield the metric of each selector with the innermost aggregation that it is in."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node.name or "", within
    elif isinstance(node, promql_parser.MatrixSelector):
        yield node.vector_selector.name or "", within
    elif isinstance(node, promql_parser.AggregateExpr):
        yield from aggregations(node.expr, node)
    elif isinstance(node, promql_parser.BinaryExpr):
        yield from aggregations(node.lhs, within)
        yield from aggregations(node.rhs, within)
    elif isinstance(node, promql_parser.Call):
        for argument in node.args:
            yield from aggregations(argument, within)
    elif isinstance(node, (promql_parser.ParenExpr, promql_parser.UnaryExpr, promql_parser.SubqueryExpr)):
        yield from aggregations(node.expr, within)


def keeps_upstreams(aggregation: promql_parser.AggregateExpr) -> bool:
    """Return whether the label ``upstream`` is in the result."""
    modifier = aggregation.modifier
    if modifier is None:
        return False
    return bool(("upstream" in modifier.labels) == (modifier.type == promql_parser.AggModifierType.By))


def put_together(node: promql_parser.Expr) -> Iterator[tuple[str, str]]:
    """Yield each metric with the operator that puts its upstreams together; empty where they are not."""
    for metric, aggregation in aggregations(node):
        if metric in COMBINE:
            is_kept = aggregation is None or keeps_upstreams(aggregation)
            yield metric, "" if is_kept or aggregation is None else str(aggregation.op)


def test_what_puts_upstreams_together_is_found() -> None:
    """Each form of an expression, and both forms of grouping."""

    def found(expr: str) -> list[str]:
        return [operator for _, operator in put_together(promql_parser.parse(expr))]

    metric = "modelhost_engine_requests_running"
    assert found(f"sum by (server) (rate({metric}[5m])) / -(max ({metric}))") == ["sum", "max"]
    assert found(f"max(sum by (server, upstream) ({metric} > 1)) or {metric}") == ["", ""]
    assert found(f"sum without (job) ({metric}) + min without (upstream) (max_over_time({metric}[5m:1m]))") == [
        "",
        "min",
    ]


@pytest.mark.parametrize("board", sorted(board["title"] for board in BOARDS.values()))
def test_dashboards_put_replicas_together_as_declared(board: str) -> None:
    """Added up, the highest or the lowest; for each upstream where they cannot be put together."""
    for question in queries():
        if question.board != board or question.kind == "variable":
            continue
        for metric, operator in put_together(parsed(question)):
            assert operator in ("", COMBINE[metric]), (question, metric)


def test_panels_say_which_upstream_a_line_is_of() -> None:
    """A panel whose query keeps the upstreams names them in its legend; a table has a column."""
    seen = 0
    for board in BOARDS.values():
        panels = [inner for panel in board["panels"] for inner in (panel, *panel.get("panels", ()))]
        for target in (target for panel in panels for target in panel.get("targets", ())):
            if "by (cluster, instance, server, upstream)" in target["expr"] and target["format"] != "table":
                seen += 1
                assert "{{upstream}}" in target["legendFormat"], target
    assert seen > 5


@pytest.mark.parametrize("expr", [*(rule["expr"] for rule in ALERTS), *RECORDED.values()])
def test_rules_put_replicas_together_as_declared(expr: str) -> None:
    """As the dashboards do; max of ``engine_up`` is 0 where all upstreams are down."""
    for metric, operator in put_together(promql_parser.parse(expr)):
        assert operator in ("", COMBINE[metric]) or (metric, operator) == ("modelhost_engine_up", "max")


def test_what_is_shown_for_each_upstream_is_not_put_together() -> None:
    """The builder of queries refuses it."""
    with pytest.raises(ValueError, match="modelhost_engine_up is shown for each upstream"):
        together("modelhost_engine_up", "instance", "server")
    assert "max by (server, upstream)" in together("modelhost_engine_up", "server", "upstream")


def answers(api: query.Prometheus, board: dict[str, Any]) -> dict[str, list[Any]]:
    """Run every query of a dashboard over the last minute and return the results; raises for one that fails."""
    end = time.time()
    view = query.opened(api, board, View(end - 60, end, scrape_interval=0.2))
    return {question.where: asked(api, question, view) for question in query.questions(board)}


def asked(api: query.Prometheus, question: Question, view: View) -> list[Any]:
    """Return the result of one query."""
    return query.ask(api, question, view)


def last(answer: list[Any]) -> dict[str, float]:
    """Return the last value of each series by its upstream."""
    return {
        series["metric"].get("upstream", ""): float(series.get("values", [series.get("value")])[-1][1])
        for series in answer
    }


def test_two_replicas_in_a_real_prometheus(start_exporter: StartExporter, tmp_path: Path) -> None:
    """Every query of every dashboard runs, without a many-to-many join; values are those of both replicas together."""
    with standing_in(pages("vllm")) as one, standing_in(pages("vllm")) as two:
        exporter = start_exporter(f"--config.file={configured(tmp_path, one, two)}")
        (line,) = [line for line in exporter.lines if '"proxying"' in line]
        for _ in range(4):
            fetch(urllib.request.Request(f"{json.loads(line)['url']}/v1/models"))  # noqa: S310 - our own server
        with running_prometheus(exporter.address, tmp_path) as server:
            server.wait_for('count(modelhost_engine_requests_running{server="r"}) == 2')
            api = query.Prometheus(server.url)
            for board in BOARDS.values():
                answers(api, board)
            check_sums(server, api, {f"127.0.0.1:{one.port}", f"127.0.0.1:{two.port}"})


def configured(folder: Path, one: StandIn, two: StandIn) -> Path:
    """Write the configuration of a server with two replicas, and of one with a URL."""
    file = folder / "config.yaml"
    file.write_text(
        f"servers: [{{name: r, urls: ['{one.url}', '{two.url}'], kind: vllm, proxy: {{listen: '127.0.0.1:0'}},"
        f" poll: {{interval: 1s}}}}, {{name: s, url: '{one.url}', kind: vllm, poll: {{interval: 1s}}}}]\n"
    )
    return file


def check_sums(server: Prometheus, api: query.Prometheus, upstreams: set[str]) -> None:
    """Check the panels of the Model servers dashboard against the raw series."""
    joined = "count(modelhost_engine_up * on (instance, server, upstream) modelhost_proxy_upstream_up)"
    assert server.value(joined) == 2
    assert server.value('count(modelhost_engine_up{upstream=""})') == 1, "with one URL the label is absent"
    assert server.value('count(modelhost_requests_total{upstream!=""})') is None
    shown: dict[str, list[Any]] = {}

    def is_shown() -> bool:
        shown.update(answers(api, BOARDS["model-servers"]))
        return set(last(shown["Requests/s by upstream A"])) == upstreams

    wait_until(is_shown, "the proxy's requests")
    assert set(last(shown["Upstreams A"])) == upstreams
    assert last(shown["Running by upstream A"]) == dict.fromkeys(upstreams, 1)
    running = {series["metric"]["server"]: float(series["values"][-1][1]) for series in shown["Running A"]}
    assert running == {"r": 2, "s": 1}
    cache = {series["metric"]["server"]: float(series["values"][-1][1]) for series in shown["KV cache in use A"]}
    assert cache["r"] == cache["s"]
    rows = [(series["metric"]["server"], series["metric"].get("upstream", "")) for series in shown["Servers A"]]
    assert sorted(rows) == sorted([*(("r", upstream) for upstream in upstreams), ("s", "")])
    loaded = {series["metric"]["server"]: float(series["value"][1]) for series in shown["Models A"]}
    assert loaded == {"r": 1, "s": 1}
