"""Query Prometheus as a dashboard does: each panel, variable and annotation, with Grafana's macros filled in.

For the tests that require data in every panel, and for the benchmarks.
"""

from __future__ import annotations

import json
import math
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

MAX_POINTS = 1000
"""About as many points as a panel of half a screen's width asks for."""
ANNOTATION_POINTS = 100
"""How many points Grafana asks an annotation for."""
# Grafana rounds a step below each limit to the value beside it (seconds)
_STEPS = (
    (1.5, 1), (3.5, 2), (7.5, 5), (12.5, 10), (17.5, 15), (25, 20), (45, 30), (90, 60), (210, 120), (450, 300),
    (750, 600), (1050, 900), (1500, 1200), (2700, 1800), (5400, 3600), (9000, 7200), (16200, 10800), (32400, 21600),
    (86400, 43200), (math.inf, 86400),
)  # fmt: skip
QUERY_RESULT = re.compile(r"query_result\((.+)\)", re.DOTALL)
_LABEL_VALUES = re.compile(r"label_values\((.+), *(\w+)\)")


@dataclass(frozen=True)
class Question:
    """One query of a dashboard: where it stands, and what it asks before macros are filled in."""

    board: str
    kind: Literal["panel", "variable", "annotation"]
    where: str
    """The panel's title and the query's refId, or the name of the variable or annotation."""
    expr: str
    instant: bool = False
    points: int = MAX_POINTS
    least: float = 0
    """The panel's own shortest step, in seconds."""
    regex: str = ""
    """Takes a variable's value out of each line of a query's result."""


@dataclass(frozen=True)
class View:
    """What a person looks at: from when to when (seconds since 1970), and the values chosen, else All."""

    start: float
    end: float
    scrape_interval: float = 15
    """The datasource's timeInterval, in seconds."""
    chosen: Mapping[str, Sequence[str]] = field(default_factory=dict)


class Prometheus:
    """Prometheus' HTTP API at an address such as ``http://127.0.0.1:9090``; ValueError for a query it refuses."""

    def __init__(self, url: str, timeout: float = 60) -> None:
        self._url = url.rstrip("/")
        self._timeout = timeout

    def vector(self, expr: str, at: float) -> list[dict[str, Any]]:
        """Return the series of an instant query, each with its ``value``."""
        found: list[dict[str, Any]] = self._get("query", query=expr, time=at)["result"]
        return found

    def matrix(self, expr: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """Return the series of a range query, each with its ``values``."""
        found: list[dict[str, Any]] = self._get("query_range", query=expr, start=start, end=end, step=step)["result"]
        return found

    def label_values(self, label: str, match: str, start: float, end: float) -> list[str]:
        """Return the values of a label among the series that match."""
        found: list[str] = self._get(f"label/{label}/values", **{"match[]": match}, start=start, end=end)
        return found

    def _get(self, path: str, **parameters: Any) -> Any:
        asked = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(asked, timeout=self._timeout) as reply:  # noqa: S310 - the address is ours
                return json.load(reply)["data"]
        except urllib.error.HTTPError as refused:
            raise ValueError(f"{parameters}: {refused.read().decode()}") from refused


def questions(board: Mapping[str, Any]) -> Iterator[Question]:
    """Yield every query of a dashboard's JSON."""
    title = board["title"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            regex = variable.get("regex", "").strip("/")
            yield Question(title, "variable", variable["name"], variable["query"]["query"], regex=regex)
    for annotation in board["annotations"].get("list", ()):
        if "expr" in annotation:
            least = float(annotation["step"].removesuffix("s"))
            points, named = ANNOTATION_POINTS, annotation["name"]
            yield Question(title, "annotation", named, annotation["expr"], points=points, least=least)
    for panel in panels(board):
        yield from panel_questions(title, panel)


def panel_questions(board: str, panel: Mapping[str, Any]) -> Iterator[Question]:
    """Yield the queries of one panel of the dashboard with this title."""
    points = int(panel.get("maxDataPoints") or MAX_POINTS)
    least = float(panel.get("interval", "0s").removesuffix("s"))
    for target in panel.get("targets", ()):
        where = f"{panel['title']} {target['refId']}"
        yield Question(board, "panel", where, target["expr"], bool(target.get("instant")), points, least)


def panels(board: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every panel that is no row, those of collapsed rows too."""
    for panel in board["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", ())
        else:
            yield panel


def opened(api: Prometheus, board: Mapping[str, Any], view: View) -> View:
    """Return the view with what Grafana looks up when it opens a dashboard.

    That is a value for each variable that has no All: the first that there is.
    """
    for question in questions(board):
        if question.kind != "variable" or question.where in view.chosen:
            continue
        variable = next(each for each in board["templating"]["list"] if each["name"] == question.where)
        if not variable.get("includeAll"):
            first = [str(value) for value in ask(api, question, view)[:1]]
            view = replace(view, chosen={**view.chosen, question.where: first})
    return view


def ask(api: Prometheus, question: Question, view: View) -> list[Any]:
    """Return a question's answer: series, or a variable's values. ValueError when Prometheus refuses the query."""
    expr = filled(question, view)
    if question.kind == "variable":
        if called := QUERY_RESULT.fullmatch(expr):
            return [*_values(question.regex, api.vector(called[1], view.end))]
        return sorted(api.label_values(*label_values(expr), view.start, view.end))
    if question.instant:
        return api.vector(expr, view.end)
    interval = step(question, view)
    start, end = (at // interval * interval for at in (view.start, view.end))  # as Grafana does
    return api.matrix(expr, start, end, interval)


def _values(regex: str, series: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Return the values that Grafana takes out of its lines, one for each series of a result, in their order."""
    for each in series:
        labels = ",".join(f'{name}="{value}"' for name, value in each["metric"].items())
        at, value = each["value"]
        if found := re.search(regex, f"{{{labels}}} {value} {at * 1000:.0f}"):
            yield found[1]


def label_values(expr: str) -> tuple[str, str]:
    """Return the label that a variable's query asks for, and the series that must have it."""
    called = _LABEL_VALUES.fullmatch(expr)
    if called is None:
        raise ValueError(f"no label_values(): {expr}")
    return called[2], called[1]


def step(question: Question, view: View) -> float:
    """Return the seconds between two points that Grafana asks for."""
    wanted = (view.end - view.start) / question.points
    return max(next(value for limit, value in _STEPS if wanted < limit), question.least, view.scrape_interval)


def filled(question: Question, view: View) -> str:
    """Return a query as Grafana sends it: macros and variables replaced by what they stand for."""
    interval = step(question, view)
    whole = round(view.end - view.start)
    rate = max(interval + view.scrape_interval, 4 * view.scrape_interval)
    values = {
        "__rate_interval": _duration(rate),
        "__interval_ms": f"{interval * 1000:.0f}",
        "__interval": _duration(interval),
        "__range_s": str(whole),
        "__range_ms": str(whole * 1000),
        "__range": f"{whole}s",
        "__from": f"{view.start * 1000:.0f}",
        "__to": f"{view.end * 1000:.0f}",
    }

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name in values:
            return values[name]
        if name.isdigit():  # a group of label_replace(), which is no variable
            return found[0]
        if found[3] == "raw":
            return "".join(view.chosen[name])
        return _pattern(view.chosen.get(name, ()), ".*" if name == "cluster" else ".+")

    return re.sub(r"\$(?:(\w+)|\{(\w+)(?::(\w+))?\})", value, question.expr)


def _pattern(values: Sequence[str], everything: str = ".+") -> str:
    """Return what a variable becomes within a regular expression in PromQL's quotes; without a value that is All."""
    # as Grafana's data source: a backslash is four, and any other special character has two before it
    escaped = [re.sub(r"([$^*{}\[\]'+?.()|])", r"\\\\\1", value.replace("\\", 4 * "\\")) for value in values]
    if not escaped:
        return everything
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def _duration(seconds: float) -> str:
    return f"{seconds:g}s" if seconds >= 1 and seconds == int(seconds) else f"{seconds * 1000:.0f}ms"
