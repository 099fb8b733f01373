"""A tab that stays open for hours."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from playwright.sync_api import CDPSession, Page, expect

from tests.page.messages import INTERVAL, START, gpu, message, model

if TYPE_CHECKING:
    from tests.page.conftest import OpenPage, Serve
    from tests.page.feed import StandInFeed

MESSAGES = int(os.environ.get("MODELHOST_TEST_MESSAGES", "4500"))
FIRST = 2_500
"""The messages after which the page has an hour of history and has forgotten some models."""
_AT_ONCE = 500


def send(feed: StandInFeed, page: Page, start: int, end: int) -> None:
    """Send messages as fast as the page shows them; each 300th brings another model."""
    for number in range(start, end):
        names = ("always", f"model-{number // 300}")
        fields = {"cpuUsage": 20 + number % 60, "gpus": [gpu(0, number % 100)]}
        models = [model(name, p50=500 + number % 90) for name in names]
        feed.send(
            message(START + INTERVAL * number, models=models, host={"name": f"at {number}", "system": ""}, **fields)
        )
        if number % _AT_ONCE == _AT_ONCE - 1:
            expect(page.locator("#host")).to_have_text(f"at {number}", timeout=20_000)


def used(session: CDPSession) -> dict[str, float]:
    """Return the bytes of objects, and the number of DOM nodes and listeners, without garbage."""
    session.send("HeapProfiler.collectGarbage")
    counts = session.send("Memory.getDOMCounters")
    return {
        "bytes": session.send("Runtime.getHeapUsage")["usedSize"],
        "nodes": counts["nodes"],
        "listeners": counts["jsEventListeners"],
    }


def test_nothing_grows_over_thousands_of_messages(serve: Serve, open_page: OpenPage) -> None:
    """Memory, DOM nodes and event listeners are those of an hour; a cursor, a zoom and a pause leave nothing behind."""
    feed = serve(message(START))
    page = open_page(feed.url, viewport={"width": 800, "height": 700})
    session = page.context.new_cdp_session(page)
    send(feed, page, 1, FIRST)
    before = used(session)
    for _ in range(3):
        page.locator("[data-chart=cpu]").focus()
        for key in ("End", "Enter", "+", "p"):
            page.keyboard.press(key)
        for _ in range(3):
            page.keyboard.press("Escape")
    send(feed, page, FIRST, MESSAGES)
    after = used(session)
    assert after["bytes"] < before["bytes"] * 1.05 + 300_000
    assert after["nodes"] <= before["nodes"] + 50
    assert after["listeners"] <= before["listeners"]
