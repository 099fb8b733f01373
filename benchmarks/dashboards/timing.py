"""Measure each panel of a dashboard: its queries in parallel, as Grafana sends them, until the last byte."""

from __future__ import annotations

import statistics
import time
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.dashboards.serving import address
from tools import dashboard_queries as query

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.measuring import Program
    from tools.dashboard_queries import Question, View

_SCREEN_PIXELS, _SCREEN_COLUMNS = 1920, 24
_AGAIN = 3
_QUICK_SHARE = 0.1
"""A panel whose first response takes less than this share of its limit is not queried again."""
_MAX_SECONDS = 120


@dataclass(frozen=True)
class Panel:
    """The queries of a panel, variable or annotation."""

    title: str
    questions: Sequence[Question]


class Timed(NamedTuple):
    """The times of a panel in one view: the first, and the median of the others."""

    board: str
    panel: str
    chosen: str
    first: float
    usual: float
    cpu: float
    """Mean CPU seconds of Prometheus: an upper bound of the time on an idle machine."""


class Failed(Exception):
    """A query failed or timed out; the text contains Prometheus' error."""


def panels_of(board: Mapping[str, Any]) -> Iterator[Panel]:
    """Yield a dashboard's queries; each panel has as many points as it is wide."""
    for question in query.questions(board):
        if question.kind != "panel":
            yield Panel(f"{question.kind} {question.where}", (question,))
    for panel in query.panels(board):
        points = int(panel.get("maxDataPoints") or panel["gridPos"]["w"] * _SCREEN_PIXELS / _SCREEN_COLUMNS)
        asked = query.panel_questions(board["title"], panel)
        if questions := [replace(question, points=points) for question in asked]:
            yield Panel(panel["title"], questions)


def timed(server: Program, panel: Panel, view: View, chosen: str, allowed: float) -> Timed:
    """Query a panel once, and again unless it was fast; ``allowed`` and the times are in seconds."""
    asked = [_url(address(server), question, view) for question in panel.questions]
    before = server.cpu_seconds()
    seconds = [_all(asked)]
    if seconds[0] > allowed * _QUICK_SHARE:
        seconds += [_all(asked) for _ in range(_AGAIN)]
    cpu = (server.cpu_seconds() - before) / len(seconds)
    usual = statistics.median(seconds[1:] or seconds)
    return Timed(panel.questions[0].board, panel.title, chosen, seconds[0], usual, cpu)


def _all(urls: Sequence[str]) -> float:
    began = time.perf_counter()
    with ThreadPoolExecutor(len(urls)) as pool:
        list(pool.map(_read, urls))
    return time.perf_counter() - began


def _read(url: str) -> None:
    try:
        with urllib.request.urlopen(url, timeout=_MAX_SECONDS) as reply:  # noqa: S310 - the address is ours
            reply.read()
    except urllib.error.HTTPError as refused:
        raise Failed(f"{urllib.parse.unquote_plus(url)}: {refused.read().decode()}") from refused
    except TimeoutError as late:
        raise Failed(f"{urllib.parse.unquote_plus(url)}: no answer within {_MAX_SECONDS} s") from late


def _url(url: str, question: Question, view: View) -> str:
    expr = query.filled(question, view)
    if question.kind == "variable":
        label, match = query.label_values(expr)
        path, parameters = f"label/{label}/values", {"match[]": match, "start": view.start, "end": view.end}
    elif question.instant:
        path, parameters = "query", {"query": expr, "time": view.end}
    else:
        step = query.step(question, view)
        path, parameters = "query_range", {"query": expr, "start": view.start, "end": view.end, "step": step}
    return f"{url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
