"""The page on paper."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, expect

from tests.page.messages import START, gpu, hour, message, model

if TYPE_CHECKING:
    from tests.page.conftest import OpenPage, Serve

A4_WIDTH = 718  # px between margins of 10 mm
_WIDTHS = """() => [...document.querySelectorAll(".chart")].map((chart) =>
  [chart.clientWidth, chart.querySelector("canvas").clientWidth])"""
_DRAWN = """() => [...document.querySelectorAll(".chart canvas")].map((canvas) =>
  new Set(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data).size)"""


@pytest.mark.parametrize("gpus", [1, 8])
def test_charts_are_whole_on_paper(serve: Serve, open_page: OpenPage, gpus: int) -> None:
    """Black on white in the dark theme, also those below the screen, as wide as their cards; no buttons."""
    long = "an-organisation/a-model-with-a-long-name-Instruct-GGUF:Q4_K_M"
    cards = [gpu(number) for number in range(gpus)]
    feed = serve(message(START, models=[model(long)], gpus=cards), hour(START - 2, gpus, (long,)))
    page = open_page(feed.url, viewport={"width": 1500, "height": 500}, color_scheme="dark")
    expect(page.locator("[data-chart=cpu]")).to_have_attribute("aria-label", re.compile("last 60 min"))
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    drawn = page.evaluate(_WIDTHS)
    assert len(drawn) == 5 + gpus
    assert all(chart == canvas for chart, canvas in drawn)
    assert min(page.evaluate(_DRAWN)) > 20
    page.emulate_media(media="print")
    page.set_viewport_size({"width": A4_WIDTH, "height": 1000})
    assert page.evaluate(_WIDTHS) == drawn
    assert page.evaluate("document.documentElement.scrollWidth") <= A4_WIDTH
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("button:visible:not(.legend button, .models button), a:visible").count() == 0
    assert page.locator("#printed").inner_text().endswith("last 60 min")
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == before


def test_printing_draws_in_light_and_returns(serve: Serve, open_page: OpenPage) -> None:
    """Chromium's own printing sends both events."""
    page: Page = open_page(serve(message(START), hour(START - 2)).url, color_scheme="dark")
    page.evaluate(
        "for (const n of ['beforeprint', 'afterprint']) addEventListener(n, () => (globalThis.seen ??= []).push(n))"
    )
    page.evaluate(
        "addEventListener('beforeprint', () => { globalThis.paper = getComputedStyle(document.body).color; })"
    )
    assert len(page.pdf(format="A4")) > 10_000
    assert page.evaluate("seen") == ["beforeprint", "afterprint"]
    assert page.evaluate("paper") == "rgb(0, 0, 0)"
    assert page.evaluate("document.documentElement.dataset.printing === undefined")
