"""What every kind of panel of the pictures is drawn with: colours, series, and how much fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Panel = Mapping[str, Any]

COLORS = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c", "blue": "#5794f2", "text": "#8e8e9a"}
PALETTE = ("#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#37872d", "#fade2a", "#c4162a")
INK, FAINT = "#ccccdc", "#3a3d44"
TIMES = (1, 5, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
"""Round steps of time, in seconds."""


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


def overrides(panel: Panel) -> dict[str, dict[str, Any]]:
    """Return a panel's overrides by what they match: a column's name or a query's refId, but not every field."""
    return {
        override["matcher"]["options"]: {each["id"]: each["value"] for each in override["properties"]}
        for override in panel["fieldConfig"]["overrides"]
        if override["matcher"]["options"] != "/.*/"
    }


def step(span: float, steps: Iterable[float], most: int) -> float:
    """Return the first of some steps that divides a span into so many parts at most."""
    return next((step for step in steps if span <= step * most), span)


def short(name: str, room: int) -> str:
    """Return a name without its beginning where it is too long: models differ in their ends."""
    return name if len(name) <= room else f"…{name[1 - room :]}"
