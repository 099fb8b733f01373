"""Draws each kind of panel with matplotlib, in Grafana's dark look: an honest likeness, not a copy."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.ticker import FuncFormatter, MultipleLocator

from grafana.formats import in_unit, text
from tools.render.theme import COLORS, INK, TIMES, Series, overrides, short, step
from tools.render.timeseries import timeseries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from matplotlib.axes import Axes

    from tools.render.query import View
    from tools.render.theme import Panel

_TIME_LABEL = 55
"""Pixels that a time takes below a graph."""
_BAND_LABEL = 26
"""Letters beside a band of states."""


def series(target: Mapping[str, Any], answer: list[Any]) -> Iterator[Series]:
    """Yield a query's answer as a legend names it."""
    for found in answer:
        labels = found["metric"]
        name = _legend(target["legendFormat"], labels)
        points = found["values"] if "values" in found else [found["value"]]
        yield Series(name, labels, tuple((float(at), float(value)) for at, value in points), target["refId"])


def _legend(template: str, labels: Mapping[str, str]) -> str:
    if template == "__auto":
        return ""
    return re.sub(r"{{(\w+)}}", lambda label: labels.get(label[1], ""), template).strip()


def draw(axes: Axes, panel: Panel, found: list[Series], view: View) -> None:
    """Draw a panel's content; its words for no data where there is none."""
    axes.set_facecolor("none")
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(colors=INK, labelsize=6.5, length=0)
    if not found:
        blank(axes)
        axes.text(
            0.5, 0.5, panel["fieldConfig"]["defaults"]["noValue"], color="#8e8e9a", ha="center", va="center", fontsize=8
        )
        return
    KINDS[panel["type"]](axes, panel, found)
    if panel["type"] in ("timeseries", "heatmap", "state-timeline"):
        axes.set_xlim(view.start, view.end)
        axes.xaxis.set_major_locator(
            MultipleLocator(step(view.end - view.start, TIMES, min(6, int(axes.bbox.width / _TIME_LABEL))))
        )
        axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: datetime.fromtimestamp(at, UTC).strftime("%H:%M")))


def blank(axes: Axes) -> None:
    """Take the axes away: what follows is text."""
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[])


def color_of(value: float, field: Mapping[str, Any]) -> str:
    """Return the colour of a value's mapping, else of its threshold."""
    if math.isnan(value):
        return COLORS["text"]
    for mapping in field.get("mappings", ()):
        if mapping["type"] == "value" and f"{value:g}" in mapping["options"]:
            return COLORS[mapping["options"][f"{value:g}"]["color"]]
    color = "text"
    for limit in field.get("thresholds", {}).get("steps", ()):
        if limit["value"] is None or value >= limit["value"]:
            color = limit["color"]
    return COLORS[color]


def stat(axes: Axes, panel: Panel, found: list[Series]) -> None:
    """Write values side by side."""
    field = panel["fieldConfig"]["defaults"]
    blank(axes)
    special = overrides(panel)
    shown = found[:6]
    for index, line in enumerate(shown):
        own = {**field, **special.get(line.ref, {})}
        middle = (index + 0.5) / len(shown)
        written = line.name if panel["options"].get("textMode") == "name" else text(line.last, own)
        size = min(16.0, 1.1 * axes.bbox.width / len(shown) / max(4, len(written)))
        axes.text(middle, 0.45, written, color=color_of(line.last, own), ha="center", va="center", fontsize=size)
        if len(shown) > 1:
            axes.text(middle, 0.98, line.name, color=INK, ha="center", va="top", fontsize=6.5)


def bargauge(axes: Axes, panel: Panel, found: list[Series]) -> None:
    """Draw bars beside each other."""
    field = panel["fieldConfig"]["defaults"]
    axes.barh(
        range(len(found)),
        [line.last for line in found],
        color=[color_of(line.last, field) for line in found],
        height=0.6,
    )
    axes.set_yticks(range(len(found)), [line.name for line in found])
    axes.invert_yaxis()
    axes.set_xticks([])
    axes.margins(x=0.2)
    for index, line in enumerate(found):
        axes.text(
            line.last if math.isfinite(line.last) else 0,
            index,
            f" {text(line.last, field)}",
            color=INK,
            va="center",
            fontsize=8,
        )


def heatmap(axes: Axes, panel: Panel, found: list[Series]) -> None:
    """Draw how often each bucket was hit: cumulative buckets become their differences."""
    field = panel["fieldConfig"]["defaults"]
    ordered = sorted(found, key=lambda line: float(line.labels["le"]))
    instants = sorted({at for line in ordered for at, _ in line.points})
    counts = np.array([[dict(line.points).get(at, math.nan) for at in instants] for line in ordered])
    cells = np.diff(counts, axis=0, prepend=0)
    cells[~(cells > 0)] = math.nan
    if np.isnan(cells).all():
        return
    rows = np.arange(len(ordered) + 1)
    width = instants[1] - instants[0] if len(instants) > 1 else 1
    axes.pcolormesh([*instants, instants[-1] + width], rows, cells, cmap="turbo", norm=LogNorm())
    shown = range(0, len(ordered), max(1, len(ordered) // 6))
    axes.set_yticks(
        [row + 1 for row in shown],
        ["" if (end := float(ordered[row].labels["le"])) == math.inf else in_unit(end, field["unit"]) for row in shown],
    )


def timeline(axes: Axes, panel: Panel, found: list[Series]) -> None:
    """Draw states as bands."""
    field = panel["fieldConfig"]["defaults"]
    for row, line in enumerate(found):
        instants = [at for at, _ in line.points]
        width = instants[1] - instants[0] if len(instants) > 1 else 1
        axes.broken_barh(
            [(at, width) for at in instants],
            (row - 0.4, 0.8),
            facecolors=[color_of(value, field) for _, value in line.points],
        )
    axes.set_yticks(range(len(found)), [short(line.name, _BAND_LABEL) for line in found])
    axes.invert_yaxis()


def table(axes: Axes, panel: Panel, found: list[Series]) -> None:
    """Write a line for each combination of labels, a column for each query."""
    blank(axes)
    arranged = panel["transformations"][1]["options"]
    keys = [name for name in arranged["indexByName"] if not name.startswith("Value")]
    columns = {ref[-1]: name for ref, name in arranged["renameByName"].items() if "#" in ref}
    settings = overrides(panel)
    lines: dict[tuple[str, ...], dict[str, float]] = {}
    for line in found:
        lines.setdefault(tuple(line.labels.get(key, "") for key in keys), {})[line.ref] = line.last
    room = max(2, int(panel["gridPos"]["h"] * 38 / 22) - 2)
    places = np.linspace(0, 1, len(keys) + len(columns), endpoint=False)
    headings = [arranged["renameByName"].get(key, key) for key in keys]
    for at, name in zip(places, (*headings, *columns.values()), strict=True):
        axes.text(at, 1, name, color="#6e9fff", fontsize=7, va="top", clip_on=True)
    for row, (labels, values) in enumerate(sorted(lines.items())[:room]):
        height = 1 - (row + 1) / room
        for at, label in zip(places, labels, strict=False):
            axes.text(at, height, short(label, _BAND_LABEL), color=INK, fontsize=7, va="top")
        for at, (ref, name) in zip(places[len(keys) :], columns.items(), strict=True):
            own = settings.get(name, {})
            if ref in values:
                color = color_of(values[ref], own) if "thresholds" in own else INK
                axes.text(at, height, in_unit(values[ref], own.get("unit", "short")), color=color, fontsize=7, va="top")


KINDS: dict[str, Callable[[Axes, Panel, list[Series]], None]] = {
    "timeseries": timeseries,
    "stat": stat,
    "bargauge": bargauge,
    "heatmap": heatmap,
    "state-timeline": timeline,
    "table": table,
}
