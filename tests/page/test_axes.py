"""The axes of the page's charts: natural steps, and labels that are whole and apart."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.page.messages import START, gpu, hour, message, model
from tests.page.pointing import wait_for_hour

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.page.conftest import OpenPage, Serve

# Each text that is drawn on a canvas, as it is on the page: its edges in px of the canvas, and the size of the canvas.
_RECORD = """
globalThis.labels = new Map();
const draw = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
  const size = this.measureText(text);
  const [left, top] = [x - size.actualBoundingBoxLeft, y - size.actualBoundingBoxAscent];
  const [right, bottom] = [x + size.actualBoundingBoxRight, y + size.actualBoundingBoxDescent];
  if (!labels.has(this.canvas)) labels.set(this.canvas, []);
  const { width, height } = this.canvas;
  labels.get(this.canvas).push({ text, left, top, right, bottom, width, height });
  return draw.apply(this, arguments);
};
const clear = CanvasRenderingContext2D.prototype.clearRect;
CanvasRenderingContext2D.prototype.clearRect = function () {
  labels.delete(this.canvas);
  return clear.apply(this, arguments);
};
"""
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800)
_RANGES = ("5 min", "15 min", "1 h")


def labels(page: Page) -> list[list[dict[str, Any]]]:
    """Return the labels of each chart that is drawn."""
    found: list[list[dict[str, Any]]] = page.evaluate("[...labels.values()]")
    return found


def is_time(label: dict[str, Any]) -> bool:
    """Return whether a label is a time of day."""
    return ":" in label["text"]


def seconds(label: dict[str, Any]) -> int:
    """Return a time of day in seconds."""
    hours, minutes, *rest = map(int, label["text"].split(":"))
    return 3600 * hours + 60 * minutes + sum(rest)


def check(page: Page) -> None:
    """No label is cut or touches another one, and times have one natural step."""
    charts = labels(page)
    assert charts
    for chart in charts:
        for label in chart:
            assert label["left"] >= 0, label
            assert label["top"] >= 0, label
            assert label["right"] <= label["width"], label
            assert label["bottom"] <= label["height"], label
        for number, one in enumerate(chart):
            for other in chart[:number]:
                beside = one["left"] - other["right"] >= 4 or other["left"] - one["right"] >= 4
                above = one["top"] >= other["bottom"] or other["top"] >= one["bottom"]
                assert beside or above, (one, other)
        times = [seconds(label) for label in chart if is_time(label)]
        assert times
        steps = {(b - a) % 86400 for a, b in pairwise(times)}
        assert len(steps) <= 1
        assert all(step in _STEPS and times[0] % step == 0 for step in steps)


@pytest.mark.parametrize("width", [320, 390, 768, 1100, 1366, 1920])
def test_labels_are_whole_and_apart(serve: Serve, open_page: OpenPage, width: int) -> None:
    """At each width, in each range and at each zoom down to ten seconds."""
    end = START + 17.3
    feed = serve(message(end, models=[model("m")], gpus=[gpu(0), gpu(1)]), hour(end - 2, 2, ("m",)))
    page = open_page(feed.url, script=_RECORD, viewport={"width": width, "height": 2200})
    wait_for_hour(page)
    for name in _RANGES:
        page.get_by_label(name, exact=True).click()
        expect(page.locator("[data-chart=cpu]")).to_have_attribute("aria-label", _ending(name))
        check(page)
    page.locator("[data-chart=cpu]").focus()
    page.keyboard.press("Home")
    for _ in range(4):
        page.keyboard.press("Shift+ArrowRight")
    for _ in range(9):
        page.keyboard.press("+")
        page.evaluate("() => new Promise(requestAnimationFrame)")
        check(page)


def test_a_quarter_of_an_hour_has_steps_of_two_minutes(serve: Serve, open_page: OpenPage) -> None:
    """In a wide chart."""
    page = open_page(serve(message(START), hour(START - 2)).url, script=_RECORD)
    wait_for_hour(page)
    page.get_by_label("15 min", exact=True).click()
    expect(page.locator("[data-chart=network]")).to_have_attribute("aria-label", _ending("15 min"))
    times = [[seconds(label) for label in chart if is_time(label)] for chart in labels(page)]
    assert any(b - a == 120 for chart in times for a, b in pairwise(chart))


def _ending(name: str) -> re.Pattern[str]:
    return re.compile(f"last {60 if name == '1 h' else name.split(' ', maxsplit=1)[0]} min")


_DURATIONS = [
    (0.9, ["0", "0.5 ms"]),
    (180.0, ["0", "50 ms", "100 ms", "150 ms"]),
    (3900.0, ["0", "1 s", "2 s", "3 s", "4 s"]),
    (100_000.0, ["0", "30 s", "1 min", "1.5 min"]),
    (1_200_000.0, ["0", "5 min", "10 min", "15 min", "20 min"]),
]


@pytest.mark.parametrize(("longest", "expected"), _DURATIONS)
def test_durations_have_natural_units(serve: Serve, open_page: OpenPage, longest: float, expected: list[str]) -> None:
    """Milliseconds, seconds and minutes without decimals that say nothing."""
    history = hour(START - 2, models=("m",))
    columns = history["models"]["chat/m"]
    for name in ("p50", "p95", "p99"):
        columns[name] = [longest] * len(columns[name])
    feed = serve(message(START, models=[model("m", p50=longest, p95=longest, p99=longest)]), history)
    page = open_page(feed.url, script=_RECORD)
    wait_for_hour(page)
    texts = [[label["text"].replace("\u202f", " ") for label in chart if not is_time(label)] for chart in labels(page)]
    assert any(chart[: len(expected)] == expected for chart in texts), texts
