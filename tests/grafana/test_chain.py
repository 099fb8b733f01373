"""The whole chain: simulated host, exporter, a real Prometheus with the real rules, every query of every dashboard."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.grafana.boards import BOARDS, ROOT
from tests.grafana.exceptions import NO_DATA
from tests.support.past import SECONDS, START
from tests.support.programs import wait_until
from tests.support.prometheus_server import running_prometheus
from tools import dashboard_queries as query
from tools.dashboard_queries import Question, View

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import StartExporter
    from tests.support.past import Past

HOUR = View(START + SECONDS - 3600, START + SECONDS)
"""A view that contains all incidents."""
AT_ONCE = {
    "Model host / Overview": ("Live A", "CPU A", "Memory A", "GPU A", "Network A", "Requests/s A", "Total requests A"),
    "Model host / Models": ("In flight and queue A", "Outcomes A"),  # its first model may fail: no tokens then
    "Model host / Model servers": ("Servers A", "Running A", "KV cache in use A"),
    "Model host / GPU": ("GPUs A", "Memory in use A", "Share of the power limit A"),
    "Model host / Fleet": ("Hosts A", "Hosts B", "Hosts C"),
}
"""Queries that have data after a few scrapes of a demo, at any time of the day."""


def each_model(api: query.Prometheus, question: Question, board: dict[str, Any], view: View) -> Iterator[View]:
    """Yield the view for each model that can be selected, if a question depends on it."""
    if "${model:raw}" not in question.expr:
        yield view
        return
    (variable,) = (each for each in query.questions(board) if (each.kind, each.where) == ("variable", "model"))
    for value in query.ask(api, variable, view):
        yield replace(view, chosen={**view.chosen, "model": [value]})


def has_data(question: Question, answer: list[Any]) -> bool:
    """Return whether there is data to show: a number, or a value of a variable."""
    if question.kind == "variable":
        return bool(answer)
    points = (point for series in answer for point in series.get("values", [series.get("value")]))
    return any(math.isfinite(float(value)) for _, value in points)


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())
def test_every_query_has_data(board: dict[str, Any], past: Past) -> None:
    """No query of a panel, variable or annotation fails, and each shows something, but for those with a reason.

    What is about one model needs data for at least one of them, since not every engine reports everything.
    """
    view = query.opened(past.api, board, HOUR)
    empty = set()
    for question in query.questions(board):
        views = each_model(past.api, question, board, view)
        if not any(has_data(question, query.ask(past.api, question, each)) for each in views):
            empty.add(question.where)
    assert empty == {where for title, where in NO_DATA if title == board["title"]}


def test_a_real_process_is_scraped_recorded_and_shown(start_exporter: StartExporter, tmp_path: Path) -> None:
    """Within seconds of ``--demo`` no dashboard's query fails, and those that need no history have data."""
    rules = ROOT / "prometheus" / "rules" / "*.yml"
    with running_prometheus(start_exporter("--demo").address, tmp_path, rules=rules) as server:
        api = query.Prometheus(server.url)
        for board in BOARDS.values():
            wait_until(partial(shows_at_once, api, board), board["title"], seconds=60)


def shows_at_once(api: query.Prometheus, board: dict[str, Any]) -> bool:
    """Run all queries of a dashboard over the last minute; return whether the expected ones have data."""
    end = time.time()
    view = query.opened(api, board, View(end - 60, end, scrape_interval=0.2))
    shown = {
        question.where for question in query.questions(board) if has_data(question, query.ask(api, question, view))
    }
    return shown.issuperset(AT_ONCE.get(board["title"], ()))
