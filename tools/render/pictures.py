"""Render the dashboards as pictures, from the same queries as a Grafana.

``python -m tools.render.pictures http://127.0.0.1:9090 FOLDER [--minutes=30] [NAME …]`` writes FOLDER/NAME.png, or all
dashboards without a NAME.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from grafana.build import BOARDS, FOLDER
from tools.render import panels as drawing
from tools.render import query, theme, timeseries

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

WIDTH, CELL, DPI = 1600, 38, 100
"""Pixels: of a picture, of one line of Grafana's grid, and per inch."""
COLUMN = WIDTH / 24
MARGINS = {"timeseries": (58, 28), "heatmap": (58, 26), "state-timeline": (150, 26), "bargauge": (80, 8)}
LEGEND_LINE = 12
SHADES, HEATS = (1, 0.6, 0.3, 0.1), 24
DARK, PANEL = "#111217", "#181b1f"


@dataclass(frozen=True)
class Box:
    """A rectangle of a picture, in pixels from its lower left corner."""

    left: float
    bottom: float
    wide: float
    high: float

    def within(self, height: float) -> tuple[tuple[float, float], float, float]:
        """Return corner, width and height as shares of a picture of this height."""
        return (self.left / WIDTH, self.bottom / height), self.wide / WIDTH, self.high / height

    def content(self, kind: str, series: int) -> Box:
        """Return what is left for a panel's content beside its title, axes and legend."""
        beside, below = MARGINS.get(kind, (10, 8))
        if kind == "timeseries":
            below += LEGEND_LINE * min(series, timeseries.LEGEND_LINES)
        return Box(self.left + beside, self.bottom + below, self.wide - beside - 14, self.high - below - 30)


def main(arguments: Sequence[str], connect: Callable[[str], query.Prometheus] = query.Prometheus) -> int:
    """Draw the dashboards that are named."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.render.pictures", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("prometheus")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BOARDS))
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--scrape-interval", type=float, default=15, help="of the data, in seconds")
    given = parser.parse_args(arguments)
    api, end = connect(given.prometheus), time.time()
    given.folder.mkdir(parents=True, exist_ok=True)
    for name in given.names or BOARDS:
        board = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
        view = query.opened(api, board, query.View(end - given.minutes * 60, end, given.scrape_interval))
        save(picture(api, board, view), given.folder / f"{name}.png")
    return 0


def save(figure: Figure, path: Path, dpi: float = DPI) -> None:
    """Write a picture, small: in so few colours that nobody sees it."""
    plain = io.BytesIO()
    figure.savefig(plain, dpi=dpi, facecolor=DARK)
    few = Image.open(plain).convert("RGB").quantize(palette=_palette(), dither=Image.Dither.NONE)
    few.save(path, optimize=True)


def _palette() -> Image.Image:
    """Return every colour that a picture needs: what is drawn with, as it fades into a panel, and a heatmap's."""
    paper = np.array(to_rgb(PANEL))
    inks = [*theme.PALETTE, *theme.COLORS.values(), theme.INK, theme.FAINT]
    drawn = [share * np.array(to_rgb(ink)) + (1 - share) * paper for ink in inks for share in SHADES]
    heat = [color[:3] for color in colormaps["turbo"](np.linspace(0, 1, HEATS))]
    palette = Image.new("P", (1, 1))
    palette.putpalette((np.array([to_rgb(DARK), paper, *drawn, *heat]) * 255).round().astype(int).ravel().tolist())
    return palette


def picture(api: query.Prometheus, board: Mapping[str, Any], view: query.View) -> Figure:
    """Return a dashboard as a figure; rows that are collapsed stay so."""
    lines = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"]) + 1
    figure = Figure(figsize=(WIDTH / DPI, lines * CELL / DPI))
    height = lines * CELL
    _write(figure, 10, height - 25, _named(board["title"], view), height, size=12)
    answers = _answers(api, board, view)
    for panel in board["panels"]:
        at = panel["gridPos"]
        top = height - (at["y"] + 1) * CELL
        if panel["type"] == "row":
            _write(figure, 10, top - 26, f"v  {_named(panel['title'], view)}", height, size=10)
            continue
        box = Box(at["x"] * COLUMN + 4, top - at["h"] * CELL + 4, at["w"] * COLUMN - 8, at["h"] * CELL - 8)
        figure.add_artist(
            Rectangle(*box.within(height), facecolor=PANEL, edgecolor="#2a2d33", linewidth=0.6, zorder=-1)
        )
        _write(figure, box.left + 8, box.bottom + box.high - 20, _named(panel["title"], view), height, size=8)
        found = answers[panel["id"]]
        (left, bottom), wide, high = box.content(panel["type"], len(found)).within(height)
        drawing.draw(figure.add_axes((left, bottom, wide, high)), panel, found, view)
    return figure


def _answers(api: query.Prometheus, board: Mapping[str, Any], view: query.View) -> dict[int, list[theme.Series]]:
    """Return every panel's series by its id."""
    answers: dict[int, list[theme.Series]] = {}
    asked = (question for question in query.questions(board) if question.kind == "panel")
    for panel, _ in query.panels(board):
        answers[panel["id"]] = [
            series
            for target in panel["targets"]
            for series in drawing.series(target, query.ask(api, next(asked), view))
        ]
    return answers


def _named(title: str, view: query.View) -> str:
    for name, value in (*view.repeated.items(), *((name, ", ".join(values)) for name, values in view.chosen.items())):
        title = title.replace(f"${name}", value)
    return title


def _write(figure: Figure, x: float, y: float, words: str, height: float, *, size: float) -> None:
    figure.text(x / WIDTH, y / height, words.replace("$", r"\$"), color=theme.INK, fontsize=size)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
