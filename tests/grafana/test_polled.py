"""Rates of counters that change with each poll of an engine: constant work is a straight line."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.config.servers import PollOptions
from tests.grafana.boards import BOARDS
from tests.support import past
from tools import dashboard_queries as query
from tools.dashboard_queries import View

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SPEED, MINUTES, END = 300, 40, time.time() // 60 * 60
BEGIN = END - MINUTES * 60
PANELS = ("Output tokens/s A", "Input tokens/s by cache A")


def samples(interval: float) -> Iterator[str]:
    """Yield what is scraped of an engine that generates 300 tokens a second and is polled every 10 s, not exactly."""
    uneven = random.Random(1)  # noqa: S311 - no secret
    polled, read = BEGIN, 0.0
    for step in range(int(MINUTES * 60 / interval)):
        at = BEGIN + interval * step
        while polled <= at:
            read = SPEED * (polled - BEGIN)
            polled += PollOptions().interval + uneven.uniform(0, 0.5)
        for direction in ("input", "output"):
            labels = f'job="modelhost",instance="a",server="vllm",cache="miss",interval="{interval:g}"'
            yield f"modelhost_engine_{direction}_tokens_total{{{labels}}} {read:.0f} {at:.3f}"


@pytest.mark.parametrize("interval", [2, 15], ids=["live", "normal"])
def test_constant_work_is_a_line(tmp_path: Path, interval: float) -> None:
    """Within 10 % of the true rate at every point, with the scrape intervals of both profiles."""
    lines = []
    for direction in ("input", "output"):
        lines.append(f"# TYPE modelhost_engine_{direction}_tokens counter")
        lines += [line for line in samples(interval) if direction in line]
    past.blocks(tmp_path, (f"{line}\n".encode() for line in lines))
    view = View(BEGIN + 600, END - 60, scrape_interval=interval)
    with past.serving(tmp_path) as server:
        for question in query.questions(BOARDS["model-servers"]):
            if question.where in PANELS:
                (series,) = query.ask(server.api, question, view)
                assert len(series["values"]) > 10
                for _, value in series["values"]:
                    assert float(value) == pytest.approx(SPEED, rel=0.1), question.where


def test_every_panel_over_polled_counters_has_the_interval() -> None:
    """No panel's rate of an engine's counters covers fewer polls."""
    found = [
        question
        for board in BOARDS.values()
        for question in query.questions(board)
        if question.kind == "panel" and "rate(modelhost_engine_" in question.expr and not question.instant
    ]
    assert len(found) > 10
    assert {question.least for question in found} == {12 * PollOptions().interval}
