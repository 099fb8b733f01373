"""The page's connection to the exporter: loss, reconnection and errors."""

from __future__ import annotations

import itertools
import re
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from playwright.sync_api import Page, expect

from tests.page.messages import START, hour, message
from tests.support.programs import wait_until

if TYPE_CHECKING:
    from tests.page.conftest import OpenPage, Serve

RETRY_MS = 5000
SILENCE_MS = 10_000
GREY = "rgb(91, 100, 112)"
LOST = re.compile(r"Not connected since \d\d:\d\d:\d\d \(\d+ s\)")


def colour(page: Page) -> str:
    """Return the colour of the indicator's dot."""
    found: str = page.locator("#indicator .dot").evaluate("dot => getComputedStyle(dot).backgroundColor")
    return found


def test_a_lost_connection_is_shown_and_restored(serve: Serve, open_page: OpenPage) -> None:
    """The indicator turns grey and shows the duration; the page reconnects five seconds after the exporter is back."""
    feed = serve(message())
    page = open_page(feed.url, losing=True)
    assert colour(page) != GREY
    page.clock.install()
    feed.close()
    expect(page.locator("#state")).to_have_text(LOST)
    assert colour(page) == GREY
    page.clock.run_for(3 * 1000)
    expect(page.locator("#state")).to_have_text(re.compile(r"\([3-9] s\)"))
    serve(message(START + 60, cpuUsage=55.5), port=urlsplit(feed.url).port or 0)
    page.clock.run_for(RETRY_MS)
    expect(page.locator("#state")).to_have_text("Live")
    expect(page.locator("#cpu .value")).to_have_text("55.5%")
    assert colour(page) != GREY


def test_the_time_of_the_loss_stays_through_failed_attempts(serve: Serve, open_page: OpenPage) -> None:
    """Failed attempts do not change the time shown, and the last numbers stay on the page."""
    feed = serve(message())
    page = open_page(feed.url, losing=True)
    page.clock.install()
    feed.close()
    expect(page.locator("#state")).to_have_text(LOST)
    page.clock.run_for(3 * RETRY_MS + 1000)
    expect(page.locator("#state")).to_have_text(re.compile(r"\(1[5-9] s\)"))
    expect(page.locator("#cpu .value")).to_have_text("37.4%")


def test_events_are_used_where_websockets_fail(serve: Serve, open_page: OpenPage) -> None:
    """The page works behind a reverse proxy that does not forward upgrades."""
    feed = serve(message(), websockets=False)
    page = open_page(feed.url, losing=True)
    assert feed.asked.index("/metrics") < feed.asked.index("/api/live")
    feed.send(message(START + 2, cpuUsage=81.5))
    expect(page.locator("#cpu .value")).to_have_text("81.5%")


def test_no_events_are_requested_while_a_websocket_works(serve: Serve, open_page: OpenPage) -> None:
    """The page uses one connection."""
    feed = serve(message())
    open_page(feed.url)
    wait_until(lambda: "/api/history" in feed.asked, "the history is fetched")
    assert "/api/live" not in feed.asked


def test_a_silent_connection_is_replaced(serve: Serve, open_page: OpenPage) -> None:
    """Without a message for ten seconds the page reconnects."""
    feed = serve(message())
    page = open_page(feed.url, losing=True)
    page.clock.install()
    feed.send(message(START + 2, cpuUsage=1.5))
    expect(page.locator("#cpu .value")).to_have_text("1.5%")
    page.clock.run_for(SILENCE_MS)
    expect(page.locator("#state")).to_have_text(LOST)
    page.clock.run_for(RETRY_MS)
    expect(page.locator("#state")).to_have_text("Live")


def test_an_error_response_is_shown(serve: Serve, open_page: OpenPage) -> None:
    """When the exporter rejects the feed, the page shows the reason."""
    reason = "the host evil.example is not in web.allowed_hosts"
    page = open_page(serve(message(), refused=reason).url, losing=True, state="lost")
    expect(page.get_by_role("alert")).to_have_text(reason)


def test_unanswered_attempts_are_aborted(serve: Serve, open_page: OpenPage) -> None:
    """Each attempt closes its connections: a browser allows six for a host, and the next attempt needs one."""
    feed = serve(message())
    page = open_page(feed.url, losing=True)
    page.clock.install()
    feed.hangs = True
    feed.hang_up()
    expect(page.locator("#state")).to_have_text(LOST)
    asked = itertools.count(1)
    for waited in (0, *(RETRY_MS + SILENCE_MS, SILENCE_MS) * 4):  # why it failed; then events, and why they failed
        page.clock.run_for(waited)
        wait_until(partial(feed.has_been_asked, "/api/live", next(asked)), "the page asks")
    page.clock.run_for(RETRY_MS)
    wait_until(lambda: feed.waiting <= 2, "what is not answered is given up")


def test_missed_messages_are_loaded_from_the_history(serve: Serve, open_page: OpenPage) -> None:
    """After a loss the history fills the gap; older points stay when the exporter was restarted."""
    feed = serve(message(START), hour(START))
    page = open_page(feed.url, losing=True)
    page.clock.install()
    feed.close()
    expect(page.locator("#state")).to_have_text(LOST)
    later = hour(START + 200)
    since = {key: values[-20:] for key, values in later["series"].items()}  # it started 40 s ago
    past = {**later, "timestamps": later["timestamps"][-20:], "series": since}
    serve(message(START + 202, cpuUsage=99.5), past, port=urlsplit(feed.url).port or 0)
    page.clock.run_for(RETRY_MS)
    expect(page.locator("#cpu .chart")).to_have_attribute("aria-label", re.compile("last 60 min.* last 99.5"))


def test_a_hidden_page_does_not_draw(serve: Serve, open_page: OpenPage) -> None:
    """A hidden tab does not change, and shows the newest message when it becomes visible."""
    feed = serve(message(START), hour(START - 2))
    page = open_page(feed.url)
    hide = "hidden => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });"
    hide += " document.dispatchEvent(new Event('visibilitychange')); }"
    page.evaluate(hide, True)
    canvas = page.locator("#cpu canvas")
    before = canvas.evaluate("canvas => canvas.toDataURL()")
    beat = page.locator("#indicator").get_attribute("data-beat")
    feed.send(message(START + 100, cpuUsage=77.7))
    expect(page.locator("#indicator")).not_to_have_attribute("data-beat", beat or "")  # it arrived
    expect(page.locator("#cpu .value")).to_have_text("37.4%")
    assert canvas.evaluate("canvas => canvas.toDataURL()") == before
    page.evaluate(hide, False)
    expect(page.locator("#cpu .value")).to_have_text("77.7%")
    assert canvas.evaluate("canvas => canvas.toDataURL()") != before


def test_without_its_chart_library_the_page_still_works(serve: Serve, open_page: OpenPage) -> None:
    """Numbers are shown, and a notice names what is missing."""
    feed = serve(message(), without=("uPlot.iife.min.js", "uPlot.min.css"))
    page = open_page(feed.url, losing=True)
    expect(page.locator("#cpu .value")).to_have_text("37.4%")
    expect(page.get_by_role("alert")).to_contain_text("Charts are missing")
    expect(page.locator("#cpu .chart")).to_be_hidden()
