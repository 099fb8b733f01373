"""Draws each kind of panel with matplotlib, in Grafana's dark look: an honest likeness, not a copy."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

from grafana.formats import in_unit, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from matplotlib.axes import Axes

    from grafana.asking import View

    Panel = Mapping[str, Any]

COLORS = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c", "blue": "#5794f2", "text": "#8e8e9a"}
PALETTE = ("#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#37872d", "#fade2a", "#c4162a")
INK, FAINT = "#ccccdc", "#3a3d44"
LEGEND_LINES = 4
_LETTER = 5.0
_TIME_LABEL = 55
"""Pixels that a letter of a legend takes, and the time at a line of the grid."""
_TIMES = (1, 5, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
"""Round steps of time, in seconds."""
_SMALL: Any = {"fontsize": 6.5}
_BAND_LABEL = 26
"""Letters beside a band of states."""


@dataclass(frozen=True)
class Series:
    """One line of an answer: what the legend calls it, its labels, and its points (seconds, value)."""

    name: str
    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]
    ref: str

    @property
    def last(self) -> float:
        """The last value."""
        return self.points[-1][1]


Line: TypeAlias = tuple[Series, str, "Mapping[str, Any]"]
"""A line with its colour and its configuration."""


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
            MultipleLocator(_step(view.end - view.start, _TIMES, min(6, int(axes.bbox.width / _TIME_LABEL))))
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
    for step in field.get("thresholds", {}).get("steps", ()):
        if step["value"] is None or value >= step["value"]:
            color = step["color"]
    return COLORS[color]


def overrides(panel: Panel) -> dict[str, dict[str, Any]]:
    """Return a panel's overrides by what they match: a column's name or a query's refId."""
    return {
        override["matcher"]["options"]: {each["id"]: each["value"] for each in override["properties"]}
        for override in panel["fieldConfig"]["overrides"]
    }


def _step(span: float, steps: Iterable[float], most: int) -> float:
    """Return the first of some steps that divides a span into so many parts at most."""
    return next((step for step in steps if span <= step * most), span)


def _scale(axes: Axes, unit: str) -> None:
    """Give the axis of values round steps, in a unit."""
    bottom, top = axes.get_ylim()
    locator: MaxNLocator | MultipleLocator = MaxNLocator(4)
    if unit == "bytes":
        locator = MultipleLocator(_step(top - bottom, (2.0**power for power in range(60)), 4))
    elif unit == "s" and top > _TIMES[3] * 2:
        locator = MultipleLocator(_step(top - bottom, _TIMES, 4))
    axes.yaxis.set_major_locator(locator)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: in_unit(value, unit)))


def timeseries(axes: Axes, panel: Panel, found: list[Series]) -> None:
    """Draw lines, or areas that add up, with a legend sorted by the last value; each unit has an axis of its own."""
    field = panel["fieldConfig"]["defaults"]
    colors = [PALETTE[index % len(PALETTE)] for index in range(len(found))]
    dressed = list(zip(found, colors, _fields(panel, found), strict=True))
    if field["custom"].get("stacking", {}).get("mode") == "normal":
        instants = sorted({at for line in found for at, _ in line.points})
        values = [[dict(line.points).get(at, 0.0) for at in instants] for line in found]
        axes.stackplot(instants, values, colors=colors, alpha=0.6, linewidth=0)
        sides = {field["unit"]: axes}
    else:
        sides = _lines(axes, field["unit"], dressed)
    for unit, side in sides.items():
        if not side.dataLim.height and not side.dataLim.y0:  # nothing but zeros
            side.set_ylim(0, 1)
        if field.get("min") is not None:
            side.set_ylim(bottom=field["min"])
        if field.get("max") is not None:
            side.set_ylim(top=field["max"])
        _scale(side, unit)
    axes.grid(color=FAINT, linewidth=0.4)
    _write_legend(axes, dressed)


def _fields(panel: Panel, found: list[Series]) -> list[Mapping[str, Any]]:
    """Return the configuration of each line: the panel's, with what overrides it for some names."""
    plain, special = panel["fieldConfig"]["defaults"], overrides(panel)
    return [
        {**plain, **next((own for name, own in special.items() if re.match(name, line.name)), {})} for line in found
    ]


def _lines(axes: Axes, unit: str, dressed: list[Line]) -> dict[str, Axes]:
    """Draw lines; returns the axes by their unit."""
    sides = {unit: axes}
    for line, color, own in dressed:
        if own["unit"] not in sides:
            sides[own["unit"]] = _other_side(axes)
        side = sides[own["unit"]]
        times, heights = zip(*_with_gaps(line.points), strict=True)
        side.plot(times, heights, color=color, linewidth=0.9)
        if len(dressed) <= LEGEND_LINES:
            side.fill_between(times, heights, color=color, alpha=0.08, linewidth=0)
    return sides


def _with_gaps(points: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Yield points, and no number where some are missing, so that no line is drawn across."""
    step = min((later - at for (at, _), (later, _) in pairwise(points)), default=0.0)
    before = points[0][0]
    for at, value in points:
        if at - before > step * 1.5:
            yield before + step, math.nan
        yield at, value
        before = at


def _other_side(axes: Axes) -> Axes:
    """Return axes for a second unit, written within the right edge."""
    side: Axes = axes.twinx()
    for spine in side.spines.values():
        spine.set_visible(False)
    side.tick_params(colors=INK, labelsize=6.5, length=0, pad=-32)
    return side


def _write_legend(axes: Axes, dressed: list[Line]) -> None:
    """Write the highest last values below a graph, each name as far as there is room."""
    room = int(axes.bbox.width / _LETTER) - 14
    ordered = sorted(dressed, key=lambda each: -each[0].last if math.isfinite(each[0].last) else math.inf)
    for index, (line, color, own) in enumerate(ordered[:LEGEND_LINES]):
        below = -(26 + 12 * index) / axes.bbox.height
        axes.text(0, below, f"— {_short(line.name or 'value', room)}", color=color, **_SMALL, transform=axes.transAxes)
        axes.text(1, below, text(line.last, own), color=INK, ha="right", **_SMALL, transform=axes.transAxes)


def _short(name: str, room: int) -> str:
    """Return a name without its beginning where it is too long: models differ in their ends."""
    return name if len(name) <= room else f"…{name[1 - room :]}"


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
    axes.set_yticks(range(len(found)), [_short(line.name, _BAND_LABEL) for line in found])
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
            axes.text(at, height, _short(label, _BAND_LABEL), color=INK, fontsize=7, va="top")
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
