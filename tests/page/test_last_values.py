"""What the page shows of a model after its last request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from playwright.sync_api import Page, expect

from tests.page.messages import START, hour, message, model
from tests.page.pointing import wait_for_hour

if TYPE_CHECKING:
    from tests.page.conftest import OpenPage, Serve

LAST = {
    "secondsAgo": 192.0,
    "avgResponseTime": 840.0,
    "p50": 610.0,
    "p95": 2100.0,
    "p99": 3900.0,
    "timeToFirstToken": 120.0,
    "successRate": 98.0,
}
_NONE = {"recentRequests": 0, "eligibleRequests": 0, "p50": None, "p95": None, "p99": None}
IDLE = model("m", **_NONE, avgResponseTime=0, successRate=0, requestsPerSecond=0, timeToFirstToken=None, last=LAST)
API = {**message()["apiStats"], **_NONE, "avgResponseTime": 0, "errorRate": 0, "requestsPerSecond": 0, "last": LAST}


# The number of lines of the chart in the colour of soft text that go from left to right.
_LINES = """() => {
  const soft = getComputedStyle(document.getElementById("system")).color.match(/\\d+/g).map(Number);
  const canvas = document.querySelector("[data-chart=latency] canvas");
  const { width, height } = canvas;
  const pen = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d");
  pen.drawImage(canvas, 0, 0);
  const pixels = pen.getImageData(0, 0, width, height).data;
  const isSoft = (x, y) => soft.every((value, channel) => pixels[4 * (y * width + x) + channel] === value);
  const across = (y) => Array.from({ length: width }, (_, x) => isSoft(x, y)).filter(Boolean).length > width / 3;
  return Array.from({ length: height }, (_, y) => across(y)).filter(Boolean).length;
}"""


def idle_history(minutes: float) -> dict[str, Any]:
    """Return an hour in which the requests ended some minutes before."""
    history = hour(START - 2, models=("m",))
    rows = round(minutes * 30)
    for name in ("p50", "p95", "p99"):
        history["models"]["chat/m"][name][-rows:] = [None] * rows
    return history


def tile(page: Page, name: str) -> tuple[str, bool]:
    """Return the text of a tile, and whether it is grey."""
    element = page.locator(f"[data-model={name}], [data-show={name}]")
    soft = page.evaluate("getComputedStyle(document.getElementById('system')).color")
    text = element.inner_text().replace("\u202f", " ").replace("\n", " ")
    return text, element.locator(".number").evaluate("number => getComputedStyle(number).color") == soft


def test_last_values_stay_with_their_age(serve: Serve, open_page: OpenPage) -> None:
    """They are grey; what is known now is not."""
    feed = serve(message(START, models=[IDLE], apiStats=API), idle_history(4))
    page = open_page(feed.url)
    for name, expected in {
        "avgResponseTime": "840ms 3 min ago",
        "timeToFirstToken": "120ms 3 min ago",
        "successRate": "98.0% 3 min ago",
        "p95": "2.10s 3 min ago",
        "apiP50": "610ms 3 min ago",
        "errorRate": "2.0% 3 min ago",
    }.items():
        assert tile(page, name) == (expected, True)
    assert tile(page, "requestsPerSecond") == ("0/s", False)
    assert tile(page, "inFlight") == ("4", False)
    feed.send(message(START + 2, models=[model("m")]))
    expect(page.locator("[data-model=avgResponseTime] .age")).to_be_empty()
    assert tile(page, "avgResponseTime") == ("840ms", False)


def test_a_model_without_any_request_has_no_age(serve: Serve, open_page: OpenPage) -> None:
    """A dash is no value of the past."""
    feed = serve(message(START, models=[{**IDLE, "last": None}]))
    page = open_page(feed.url)
    assert tile(page, "avgResponseTime") == ("\u2013", False)


def test_ages_below_a_minute_do_not_count_seconds(serve: Serve, open_page: OpenPage) -> None:
    """They would change with each message."""
    feed = serve(message(START, models=[{**IDLE, "last": {**LAST, "secondsAgo": 59.0}}]))
    assert tile(open_page(feed.url), "p50")[0] == "610ms < 1 min ago"


def test_a_chart_continues_with_the_last_values(serve: Serve, open_page: OpenPage) -> None:
    """A dashed line shows them, also where requests ended before the time that is shown."""
    pictures = set()
    for history, last in ((idle_history(20), LAST), (idle_history(60), LAST), (idle_history(60), None)):
        page = open_page(serve(message(START, models=[{**IDLE, "last": last}]), history).url)
        wait_for_hour(page)
        page.get_by_label("15 min", exact=True).check()
        chart = page.locator("[data-chart=latency]")
        expect(chart).to_have_attribute("aria-label", re.compile("p50: no data. p95: no data"))
        soft = page.evaluate(_LINES)
        assert soft == (0 if last is None else 3)
        pictures.add(page.locator("[data-chart=latency] canvas").evaluate("canvas => canvas.toDataURL()"))
    assert len(pictures) == 3
