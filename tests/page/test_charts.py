"""Zoom, cursor, legends and pause of the charts, by mouse, touch and keyboard."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Page, expect

from tests.page.messages import START, hour, message, model
from tests.page.pointing import drag, period, point, swipe, wait_for_hour

if TYPE_CHECKING:
    from tests.page.conftest import OpenPage, Serve
    from tests.page.feed import StandInFeed

CHARTS = ("cpu", "memory", "latency", "tokens", "network")
ZOOMED = re.compile(r"\d\d:\d\d:\d\d to \d\d:\d\d:\d\d")
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True}


@pytest.fixture
def feed(serve: Serve) -> StandInFeed:
    """Serve an hour with a model."""
    return serve(message(START, models=[model("m")], cpuUsage=50.5), hour(START - 2, models=("m",)))


@pytest.fixture
def page(feed: StandInFeed, open_page: OpenPage) -> Page:
    """Open its page, with all charts on the screen."""
    page = open_page(feed.url)
    wait_for_hour(page)
    return page


def picture(page: Page, chart: str = "cpu") -> str:
    """Return what is drawn in a chart."""
    data: str = page.locator(f"[data-chart={chart}] canvas").evaluate("canvas => canvas.toDataURL()")
    return data


def tips(page: Page) -> list[str]:
    """Return the texts at the cursor that are shown."""
    return page.locator(".tip:visible").all_inner_texts()


def test_dragging_zooms_all_charts(feed: StandInFeed, page: Page) -> None:
    """A quarter of the hour becomes 15 minutes in each chart, which new values do not move."""
    drag(page, "cpu", 0.25, 0.5)
    expect(page.get_by_role("button", name="Zoom out")).to_be_visible()
    shown = {period(page, chart) for chart in CHARTS}
    assert len(shown) == 1
    (start, end) = (
        sum(int(n) * 60**p for p, n in enumerate(reversed(t.split(":")))) for t in shown.pop().split(" to ")
    )
    assert (end - start) % 86400 == pytest.approx(900, abs=10)
    before = picture(page)
    feed.send(message(START + 90, models=[model("m")], cpuUsage=99))
    expect(page.locator("#cpu .value")).to_have_text("99.0%")
    assert picture(page) == before


@pytest.mark.parametrize("way", ["double click", "button", "Escape", "range", "back"])
def test_there_are_ways_out_of_a_zoom(page: Page, way: str) -> None:
    """Each shows the whole range again, and hides the button."""
    drag(page, "network", 0.5, 0.6)
    expect(page.locator("[data-chart=cpu]")).to_have_attribute("aria-label", ZOOMED)
    if way == "double click":
        page.mouse.dblclick(*point(page, "memory", 0.3))
    elif way == "button":
        page.get_by_role("button", name="Zoom out").click()
    elif way == "Escape":
        page.keyboard.press("Escape")
    elif way == "range":
        page.get_by_label("1 h", exact=True).click()
    else:
        page.go_back()
    wait_for_hour(page)
    expect(page.locator("#chart-state")).to_be_hidden()


def test_a_zoom_has_at_least_ten_seconds(page: Page) -> None:
    """Also within a zoom."""
    for _ in range(5):
        drag(page, "cpu", 0.5, 0.55)
    start, end = (int(time[-2:]) for time in period(page).split(" to "))
    assert (end - start) % 60 == pytest.approx(10, abs=1)


def test_a_held_cursor_keeps_its_time(feed: StandInFeed, page: Page) -> None:
    """A click holds it, with the values of all charts; it moves with the points, and another click releases it."""
    page.mouse.click(*point(page, "cpu", 0.8))
    expect(page.locator(".tip:visible")).to_have_count(len(CHARTS))
    time = tips(page)[0].split("\n")[0]
    assert {tip.split("\n")[0] for tip in tips(page)} == {time}
    expect(page.locator("#chart-state")).to_have_text(re.compile(f"Cursor at {time}"))
    values = tips(page)
    line = page.locator("[data-chart=cpu] .u-cursor-x")
    x = line.evaluate("line => line.getBoundingClientRect().x")
    feed.send(message(START + 600, models=[model("m")], cpuUsage=99))
    page.wait_for_function("x => document.querySelector('#cpu .u-cursor-x').getBoundingClientRect().x < x - 20", arg=x)
    page.mouse.move(*point(page, "cpu", 0.2))  # it does not follow the pointer
    assert tips(page) == values
    page.keyboard.press("Escape")
    expect(page.locator("#chart-state")).to_be_hidden()
    page.mouse.click(*point(page, "memory", 0.5))
    page.mouse.click(*point(page, "cpu", 0.5))
    expect(page.locator("#chart-state")).to_be_hidden()


def test_a_chart_that_is_scrolled_to_has_the_held_cursor(feed: StandInFeed, open_page: OpenPage) -> None:
    """It was held while the chart was below the screen, and drawn before."""
    page = open_page(feed.url, viewport={"width": 1200, "height": 500})
    wait_for_hour(page)
    point(page, "network", 0.5)
    place = point(page, "cpu", 0.5)
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    page.mouse.click(*place)
    expect(page.get_by_role("button", name="Release")).to_be_visible()
    point(page, "network", 0.5)
    expect(page.locator("[data-chart=network] .tip")).to_be_visible()


def test_the_cursor_is_at_one_time_in_all_charts(page: Page) -> None:
    """The values are shown on the chart under the pointer only."""
    page.mouse.move(*point(page, "memory", 0.5))
    expect(page.locator(".tip:visible")).to_have_count(1)
    assert "Memory usage" in tips(page)[0]
    lines = page.locator(".u-cursor-x:not(.u-off)")
    expect(lines).to_have_count(len(CHARTS))
    page.mouse.move(5, 5)
    expect(lines).to_have_count(0)


def test_keys_move_hold_and_zoom(page: Page) -> None:
    """Home, End, arrows, Enter, plus, minus and Escape on a chart."""
    page.locator("[data-chart=cpu]").focus()
    tip = page.locator("[data-chart=cpu] .tip")
    page.keyboard.press("End")
    expect(tip).to_have_text(re.compile(r"CPU usage 50\.5"))
    page.keyboard.press("Home")
    first = tip.inner_text()
    page.keyboard.press("Shift+ArrowRight")
    seconds = int(tip.inner_text()[6:8]) - int(first[6:8])
    assert seconds % 60 == 20
    page.keyboard.press("Enter")
    expect(page.locator(".tip:visible")).to_have_count(len(CHARTS))
    page.keyboard.press("ArrowLeft")  # what is held can be moved
    expect(page.locator("#chart-state")).to_have_text(re.compile(tip.inner_text()[:8]))
    page.keyboard.press("+")
    expect(page.locator("[data-chart=network]")).to_have_attribute("aria-label", ZOOMED)
    expect(tip).to_be_visible()
    page.keyboard.press("-")
    wait_for_hour(page)
    page.keyboard.press("+")
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Release")).to_be_hidden()
    page.keyboard.press("Escape")
    wait_for_hour(page)


def test_names_in_a_legend_hide_and_show_lines(page: Page) -> None:
    """By mouse and by keyboard; a hidden line does not set the scale."""
    before = picture(page, "latency")
    button = page.get_by_role("button", name="p99")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "false")
    page.mouse.move(*point(page, "latency", 0.5))
    expect(page.locator("[data-chart=latency] .tip")).to_have_text(re.compile("p95"))
    assert "p99" not in tips(page)[0]
    page.mouse.move(5, 5)
    assert picture(page, "latency") != before
    button.press("Enter")
    expect(button).to_have_attribute("aria-pressed", "true")
    page.wait_for_function("before => document.querySelector('#models canvas').toDataURL() === before", arg=before)


def test_a_pause_stops_numbers_and_charts_but_not_the_banner(feed: StandInFeed, page: Page) -> None:
    """New values come in behind it, and are shown when it ends."""
    page.keyboard.press("p")
    expect(page.locator("#chart-state")).to_contain_text("Paused at ")
    before = picture(page)
    full = {"mountpoint": "/data", "problem": "full"}
    feed.send(message(START + 300, models=[model("m")], cpuUsage=98.5, diskTroubles=[full]))
    expect(page.locator("#trouble")).to_have_text("/data is full")
    assert page.locator("#cpu .value").inner_text() == "50.5%"
    assert picture(page) == before
    page.get_by_label("5 min", exact=True).check()  # of the time before the pause
    expect(page.locator("[data-chart=cpu]")).to_have_attribute("aria-label", re.compile(" to .* last 50.5"))
    page.get_by_role("button", name="Resume").first.click()
    expect(page.locator("#cpu .value")).to_have_text("98.5%")
    expect(page.locator("[data-chart=cpu]")).to_have_attribute("aria-label", re.compile("last 98.5"))
    expect(page.locator("#chart-state")).to_be_hidden()


def test_keys_do_nothing_where_an_option_is_chosen(page: Page) -> None:
    """Letters choose in a list of models."""
    page.get_by_label("Model", exact=True).focus()
    page.keyboard.press("p")
    page.keyboard.press("?")
    expect(page.locator("#chart-state")).to_be_hidden()
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_the_help_lists_the_keys(page: Page) -> None:
    """It opens by key and by button, and closes by Escape, which then zooms nothing out."""
    drag(page, "cpu", 0.25, 0.5)
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Charts")
    expect(dialog).to_be_visible()
    text = dialog.inner_text()
    assert not [key for key in ("Esc", "Home", "End", "Enter", "Shift", "P", "?") if key not in text]
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("button", name="Zoom out")).to_be_visible()
    page.get_by_role("button", name="Help").click()
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_be_hidden()


def test_fingers_zoom_hold_and_scroll(feed: StandInFeed, open_page: OpenPage) -> None:
    """A swipe along a chart zooms, a tap holds the cursor, and a swipe across it scrolls the page."""
    page = open_page(feed.url, **PHONE)
    wait_for_hour(page)
    swipe(page, [point(page, "cpu", share / 100) for share in range(30, 80, 10)])
    expect(page.locator("[data-chart=cpu]")).to_have_attribute("aria-label", ZOOMED)
    zoomed = period(page)
    page.touchscreen.tap(*point(page, "cpu", 0.4))
    expect(page.get_by_role("button", name="Release")).to_be_visible()
    page.get_by_role("button", name="Release").tap()
    x, y = point(page, "cpu", 0.5)
    scrolled = page.evaluate("scrollY")
    swipe(page, [(x, y - step) for step in range(0, 120, 15)])
    page.wait_for_function("before => scrollY > before + 50", arg=scrolled)
    assert period(page) == zoomed
    expect(page.get_by_role("button", name="Release")).to_be_hidden()


def test_a_zoom_ends_when_its_time_is_forgotten(feed: StandInFeed, page: Page) -> None:
    """More than an hour later there is nothing left to show."""
    drag(page, "cpu", 0.1, 0.2)
    expect(page.locator("[data-chart=cpu]")).to_have_attribute("aria-label", ZOOMED)
    feed.send(message(START + 7200, models=[model("m")]))
    expect(page.locator("#chart-state")).to_be_hidden()


def test_a_zoom_that_was_forgotten_during_a_pause_ends_with_it(feed: StandInFeed, page: Page) -> None:
    """The paused charts keep it; the newest values are shown then."""
    drag(page, "cpu", 0.1, 0.2)
    page.keyboard.press("p")
    beat = page.locator("#indicator").get_attribute("data-beat") or ""
    feed.send(message(START + 7200, models=[model("m")]))
    expect(page.locator("#indicator")).not_to_have_attribute("data-beat", beat)
    expect(page.locator("[data-chart=cpu]")).to_have_attribute("aria-label", ZOOMED)
    page.keyboard.press("p")
    expect(page.locator("#chart-state")).to_be_hidden()
