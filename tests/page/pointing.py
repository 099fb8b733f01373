"""Mouse and touch on the page's charts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from playwright.sync_api import Page

Point = tuple[float, float]


def point(page: Page, chart: str, share: float) -> Point:
    """Return the point at a share of a chart's width, in the middle of its height, after scrolling to it."""
    page.locator(f"[data-chart={chart}]").scroll_into_view_if_needed()  # where it is drawn
    over = page.locator(f"[data-chart={chart}] .u-over")
    box = over.bounding_box()
    assert box is not None
    return box["x"] + share * box["width"], box["y"] + box["height"] / 2


def drag(page: Page, chart: str, start: float, end: float) -> None:
    """Drag with the mouse from one share of a chart's width to another."""
    page.mouse.move(*point(page, chart, start))
    page.mouse.down()
    page.mouse.move(*point(page, chart, end), steps=4)
    page.mouse.up()


def swipe(page: Page, points: Sequence[Point]) -> None:
    """Move a finger along points."""
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *at: Point) -> None:
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in at]})

    touch("touchStart", points[0])
    for moved in points[1:]:
        touch("touchMove", moved)
    touch("touchEnd")
    session.detach()


def period(page: Page, chart: str = "cpu") -> str:
    """Return the time that a chart shows, from its name."""
    name = page.locator(f"[data-chart={chart}]").get_attribute("aria-label") or ""
    return name.split(", ", 1)[1].split(". ")[0]


def wait_for_hour(page: Page) -> None:
    """Wait until the history is drawn."""
    expect(page.locator("[data-chart=cpu]")).to_have_attribute("aria-label", re.compile("last 60 min"))
