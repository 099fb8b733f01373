"""The committed dashboards, and the parts of their PromQL."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import promql_parser

from modelhost_exporter import collectors
from modelhost_exporter.metrics import exporter_metrics
from modelhost_exporter.process import descriptors
from modelhost_exporter.proxy import self_metrics
from modelhost_exporter.requests import metrics as request_metrics
from modelhost_exporter.scraping import scrape
from modelhost_exporter.security import families as security_families
from modelhost_exporter.web import families as web_families
from tools import dashboard_queries as query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelhost_exporter.metrics.families import Family
    from tools.dashboard_queries import Question

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "grafana" / "dashboards"
BOARDS: dict[str, dict[str, Any]] = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
VIEW = query.View(1_000_000, 1_000_000 + 3601, scrape_interval=60.75, chosen={"model": ["a model"]})
"""Gives macros recognisable values: $__rate_interval 243 s, $__range 3601 s."""
RATE_INTERVAL, RANGE = "0:04:03", "1:00:01"


@dataclass(frozen=True)
class Selector:
    """A series selector within a query: its metric, its matchers, its range, and the function that is applied to it."""

    metric: str
    matchers: frozenset[tuple[str, str, str]]
    range: str = ""
    function: str = ""


def queries(kind: str = "") -> Iterator[Question]:
    """Yield every query of every dashboard, or those of one kind."""
    for board in BOARDS.values():
        yield from (question for question in query.questions(board) if kind in ("", question.kind))


def parsed(question: Question) -> promql_parser.Expr:
    """Return a query's syntax tree; for a variable, that of the selector in label_values()."""
    expr = query.filled(question, VIEW)
    if question.kind == "variable":
        called = query.QUERY_RESULT.fullmatch(expr)
        expr = called[1] if called else expr.removeprefix("label_values(").rpartition(",")[0]
    return promql_parser.parse(expr)


def selectors(question: Question) -> list[Selector]:
    """Return every selector of a query."""
    found: list[Selector] = []
    ranged: set[str] = set()

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.Call):
            for argument in node.args:
                if isinstance(argument, promql_parser.MatrixSelector):
                    found.append(_selector(argument.vector_selector, str(argument.range), node.func.name))
                    ranged.add(str(argument.vector_selector))
        if isinstance(node, promql_parser.VectorSelector) and str(node) not in ranged:
            found.append(_selector(node))

    promql_parser.walk(parsed(question), visit)
    return found


def _selector(node: promql_parser.VectorSelector, window: str = "", function: str = "") -> Selector:
    matchers = frozenset((matcher.name, str(matcher.op), matcher.value) for matcher in node.matchers.matchers)
    return Selector(node.name or "", matchers, window, function)


def families() -> list[Family]:
    """Return every metric family that the exporter declares."""
    of_collectors = [family for name in collectors.names() for family in collectors.module(name).FAMILIES]
    ours = (request_metrics, self_metrics, exporter_metrics, scrape, descriptors, web_families, security_families)
    return [*of_collectors, *(family for module in ours for family in module.FAMILIES)]


def series_of(family: Family) -> set[str]:
    """Return the names that a family's series have."""
    if family.type == "histogram":
        return {f"{family.name}_{part}" for part in ("bucket", "sum", "count")}
    return {family.name}
