"""Draws courses over time for the pictures: lines or areas, axes with round steps, and the legend below."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

from grafana.formats import in_unit, text
from tools.render.theme import FAINT, INK, PALETTE, TIMES, Series, overrides, short, step

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from matplotlib.axes import Axes

    from tools.render.theme import Panel

LEGEND_LINES = 4
_LETTER = 5.0
"""Pixels that a letter of a legend takes."""
_SMALL: Any = {"fontsize": 6.5}
Line: TypeAlias = tuple[Series, str, "Mapping[str, Any]"]
"""A line with its colour and its configuration."""


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


def _scale(axes: Axes, unit: str) -> None:
    """Give the axis of values round steps, in a unit."""
    bottom, top = axes.get_ylim()
    locator: MaxNLocator | MultipleLocator = MaxNLocator(4)
    if unit == "bytes":
        locator = MultipleLocator(step(top - bottom, (2.0**power for power in range(60)), 4))
    elif unit == "s" and top > TIMES[3] * 2:
        locator = MultipleLocator(step(top - bottom, TIMES, 4))
    axes.yaxis.set_major_locator(locator)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: in_unit(value, unit)))


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
        times, heights = zip(*with_gaps(line.points), strict=True)
        side.plot(times, heights, color=color, linewidth=0.9)
        if len(dressed) <= LEGEND_LINES:
            side.fill_between(times, heights, color=color, alpha=0.08, linewidth=0)
    return sides


def with_gaps(points: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Yield points, and no number where some are missing, so that no line is drawn across."""
    least = min((later - at for (at, _), (later, _) in pairwise(points)), default=0.0)
    before = points[0][0]
    for at, value in points:
        if at - before > least * 1.5:
            yield before + least, math.nan
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
        axes.text(0, below, f"— {short(line.name or 'value', room)}", color=color, **_SMALL, transform=axes.transAxes)
        axes.text(1, below, text(line.last, own), color=INK, ha="right", **_SMALL, transform=axes.transAxes)
