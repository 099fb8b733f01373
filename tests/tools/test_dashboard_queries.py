"""Macros are filled in as Grafana does it, and a real Prometheus accepts every query."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.grafana.boards import BOARDS, ROOT
from tests.support.programs import installed
from tests.support.prometheus_server import running_prometheus
from tools import dashboard_queries as query
from tools.dashboard_queries import Question, View

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartExporter

RULES = ROOT / "prometheus" / "rules" / "recording.yml"
HOUR = View(start=0, end=3600)


def question(expr: str, *, points: int = query.MAX_POINTS) -> Question:
    """Return a panel's query."""
    return Question("board", "panel", "panel A", expr, points=points)


@pytest.mark.parametrize(
    ("view", "points", "filled"),
    [
        (HOUR, 1000, "60s 15s 15000 3600s 3600"),
        (View(0, 3600, scrape_interval=1), 1000, "6s 5s 5000 3600s 3600"),
        (View(0, 300, scrape_interval=1), 1000, "4s 1s 1000 300s 300"),
        (View(0, 7 * 86400), 1000, "615s 600s 600000 604800s 604800"),
        (View(0, 3600, scrape_interval=0.2), 3600, "1200ms 1s 1000 3600s 3600"),
    ],
)
def test_macros(view: View, points: int, filled: str) -> None:
    """$__rate_interval is at least four scrapes and one step more than a step; the step is round."""
    asked = question("$__rate_interval $__interval $__interval_ms $__range ${__range_s}", points=points)
    assert query.filled(asked, view) == filled


@pytest.mark.parametrize(
    ("chosen", "filled"),
    [
        ({}, 'x{model=~".+"}'),
        ({"model": ["llama3.2:1b"]}, 'x{model=~"llama3\\\\.2:1b"}'),
        ({"model": ["a", "b+c"]}, 'x{model=~"(a|b\\\\+c)"}'),
    ],
)
def test_variables(chosen: dict[str, list[str]], filled: str) -> None:
    """All is .+; one value is escaped; several are alternatives."""
    view = View(0, 3600, chosen=chosen)
    assert query.filled(question('x{model=~"$model"}'), view) == filled
    assert query.filled(question('x{model=~"${model}"}'), view) == filled
    assert query.filled(question('label_replace(x, "a", "$1", "b", "(.+)")'), view).count("$1") == 1


def test_a_panels_own_step() -> None:
    """A panel with a minimum step uses no shorter one, and its rates cover at least that."""
    view = View(0, 300, scrape_interval=1)
    asked = Question("board", "panel", "panel A", "$__rate_interval $__interval", least=15)
    assert query.filled(asked, view) == "16s 15s"
    assert {each.least for board in BOARDS.values() for each in query.questions(board)} == {0, 15, 60, 120}


def test_every_query_of_every_kind_is_found() -> None:
    """Panels within collapsed rows, variables and annotations are queried too."""
    found = [each for board in BOARDS.values() for each in query.questions(board)]
    assert {each.kind for each in found} == {"panel", "variable", "annotation"}
    assert any("mig" in each.expr for each in found)


def test_a_real_prometheus_understands_every_query(start_exporter: StartExporter, tmp_path: Path) -> None:
    """No query fails, and queries about the host, which every machine has, return data."""
    installed("prometheus")
    with running_prometheus(start_exporter().address, tmp_path, rules=RULES) as server:
        server.wait_for("instance:cpu_usage:ratio_rate5m")
        api = query.Prometheus(server.url)
        end = time.time() + 1  # Grafana rounds down to whole steps
        found = set()
        for board in BOARDS.values():
            view = query.opened(api, board, View(end - 60, end, scrape_interval=0.2))
            found |= {(each.board, each.where) for each in query.questions(board) if query.ask(api, each, view)}
        with pytest.raises(ValueError, match="parse error"):
            api.vector("sum(", end)
    for panel in ("CPU A", "Memory A", "Network A", "Live A", "Data age A", "CPU now B", "instance"):
        assert ("Model host / Overview", panel) in found, panel
    for panel in ("CPU by mode A", "CPU per core A", "Load against cores D", "Memory A", "Space A", "Packets B"):
        assert ("Model host / Host", panel) in found, panel
    for panel in ("Hosts A", "Hosts B", "Hosts C", "Hosts D", "Busiest CPUs A"):
        assert ("Model host / Fleet", panel) in found, panel
    for panel in ("CPU A", "Memory A", "Open files A", "Samples per scrape A", "Collectors A", "Exporters A"):
        assert ("Model host / Exporter", panel) in found, panel
