"""Accessibility of the page: themes, screen widths, keyboard and screen reader."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, expect

from tests.page.messages import START, gpu, hour, message, model

if TYPE_CHECKING:
    from tests.page.conftest import OpenPage, Serve

# Each text's colour against the nearest background that is not transparent: (text, contrast) below WCAG's AA.
LOW_CONTRAST = """
() => {
  const channel = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  const luminance = (colour) => {
    const [red, green, blue] = colour.match(/[\\d.]+/g).map((part) => channel(part / 255));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const opaque = (colour) => !/, 0\\)|transparent/.test(colour);
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if (opaque(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const low = [];
  let count = 0;
  for (let node; (node = walker.nextNode());) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.checkVisibility() || element.closest("noscript, .hidden")) continue;
    const [light, dark] = [getComputedStyle(element).color, behind(element)].map(luminance).sort((a, b) => b - a);
    count++;
    if ((light + 0.05) / (dark + 0.05) < 4.5) low.push(`${node.data.trim()}: ${(light + 0.05) / (dark + 0.05)}`);
  }
  return { low, count };
}
"""
_BUSY = message(
    cpuUsage=75,
    memoryUsage=95,
    gpus=[gpu(0, 91.0), gpu(1, 5.0)],
    models=[model("m")],
    demo=True,
    apiStats={**message()["apiStats"], "errorRate": 7},
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast(serve: Serve, open_page: OpenPage, scheme: str) -> None:
    """At least 4.5 in both themes, including amber and red, connected or not."""
    feed = serve(_BUSY)
    page = open_page(feed.url, color_scheme=scheme, losing=True)
    found = page.evaluate(LOW_CONTRAST)
    assert found["count"] > 80
    assert found["low"] == []
    feed.close()
    expect(page.locator("body")).to_have_attribute("data-state", "lost")
    assert page.evaluate(LOW_CONTRAST)["low"] == []


@pytest.mark.parametrize("width", [320, 390, 768, 1100, 1440, 2560])
def test_nothing_is_wider_than_the_screen(serve: Serve, open_page: OpenPage, width: int) -> None:
    """No horizontal scrolling with eight GPUs and a long model name; no number is wider than its card."""
    gpus = [gpu(number) for number in range(8)]
    long = model("an-organisation/a-model-with-a-name-that-does-not-end-Instruct-GGUF:Q4_K_M" * 2)
    host = {**message()["host"], "name": "ahostwhosenamegoesonandon" * 5 + ".example.com"}
    feed = serve(message(gpus=gpus, models=[long], host=host))
    page = open_page(feed.url, viewport={"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = """() => [...document.querySelectorAll(".card")].filter((card) => {
      const end = card.getBoundingClientRect().right;
      return [...card.querySelectorAll(".number, .unit, select")].some((e) => e.getBoundingClientRect().right > end);
    }).map((card) => card.innerText)"""
    assert page.evaluate(wide) == []


def test_all_controls_are_reachable_by_keyboard(serve: Serve, open_page: OpenPage) -> None:
    """Tab moves to the skip link first, then through controls and charts; the focus is visible."""
    page = open_page(serve(message(START + 2, models=[model("m"), model("n")]), hour(START)).url)
    seen = []
    for _ in range(12):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
        outline = "getComputedStyle(document.activeElement.matches('input') ? document.activeElement.nextElementSibling"
        assert page.evaluate(f"{outline} : document.activeElement).outlineStyle") == "solid", seen
    assert seen[0] == "skip"
    assert "model" in seen
    assert "chart" in seen


def test_bars_and_lines_keep_their_colours_with_forced_colours(serve: Serve, open_page: OpenPage) -> None:
    """In high contrast mode bars, keys of legends and the dot of the indicator are visible."""
    page = open_page(serve(message(models=[model("m")])).url, forced_colors="active")
    card = page.locator("#api").evaluate("card => getComputedStyle(card).backgroundColor")
    for selector, part in ((".bars .meter div", ""), ("#disk .meter div", ""), (".dot", ""), (".p95", "::before")):
        script = "(element, part) => getComputedStyle(element, part).backgroundColor"
        assert page.locator(selector).first.evaluate(script, part) != card, selector


def test_a_focused_element_is_not_behind_the_bar(serve: Serve, open_page: OpenPage) -> None:
    """The page scrolls where needed."""
    feed = serve(message(START + 2, models=[model("m")]), hour(START))
    page = open_page(feed.url, viewport={"width": 1200, "height": 400})
    select = page.locator("#model")
    page.get_by_role("button", name="p50").focus()
    select.evaluate("select => scrollBy(0, select.getBoundingClientRect().top - 10)")
    page.keyboard.press("Shift+Tab")
    expect(select).to_be_focused()
    bar = page.locator(".top").evaluate("bar => bar.getBoundingClientRect().bottom")
    assert select.evaluate("select => select.getBoundingClientRect().top") >= bar


def test_the_numbers_of_a_chart_are_reachable_by_keyboard(serve: Serve, open_page: OpenPage) -> None:
    """The arrow keys move along the points of the focused chart."""
    page = open_page(serve(message(START + 2, cpuUsage=50.5), hour(START)).url)
    chart = page.locator("#cpu .chart")
    chart.focus()
    tip = chart.locator(".tip")
    page.keyboard.press("ArrowLeft")
    expect(tip).to_contain_text("CPU usage")
    before = tip.inner_text()
    expect(page.get_by_role("status")).to_have_text(before.replace("\n", ", "))  # a screen reader says it
    page.keyboard.press("ArrowLeft")
    expect(tip).not_to_have_text(before)
    page.keyboard.press("ArrowRight")
    expect(tip).to_have_text(before)
    chart.blur()
    expect(tip).to_be_hidden()


def test_the_page_has_landmarks_headings_and_names(serve: Serve, open_page: OpenPage) -> None:
    """Landmarks, one heading for each card, and names for all controls and charts."""
    page = open_page(serve(message(START + 2, models=[model("m")], gpus=[gpu(0)]), hour(START)).url)
    for role in ("banner", "main", "contentinfo", "navigation"):
        expect(page.get_by_role(role)).to_have_count(1)
    headings = page.get_by_role("heading", level=2).all_inner_texts()
    asked_first = ("Processes", "Recent requests")  # the page may hide these
    assert [text for text in headings if text not in asked_first] == [
        *("Models", "CPU", "Memory", "GPU", "Model performance", "API", "Network", "Disk", "Energy")
    ]
    expect(page.get_by_role("group", name="Time shown in the charts")).to_be_visible()
    expect(page.get_by_role("combobox", name="Model")).to_be_visible()
    for title in ("CPU usage", "Memory usage", "GPU usage", "Network", "Response time", "Output tokens per second"):
        expect(page.get_by_role("img", name=f"{title}, last ")).to_have_count(1)


def test_only_changes_of_the_connection_are_announced(serve: Serve, open_page: OpenPage) -> None:
    """The state of the connection is in a live region; no number is."""
    feed = serve(message())
    page = open_page(feed.url, losing=True)
    live = page.locator("[role=status], [role=alert], [aria-live]")
    texts = live.all_inner_texts()
    assert [text for text in texts if text] == ["Live"]
    feed.send(message(START + 2, cpuUsage=95))
    expect(page.locator("#cpu .value")).to_have_text("95.0%")
    assert live.all_inner_texts() == texts
    feed.close()
    expect(page.get_by_role("status")).to_have_text("Not connected. The page reconnects every 5 seconds.")


def test_the_page_follows_a_change_of_the_theme(serve: Serve, open_page: OpenPage) -> None:
    """Charts use the new colours at once."""
    page: Page = open_page(serve(message(START + 2), hour(START)).url, color_scheme="light")
    expect(page.locator("#cpu .chart")).to_have_attribute("aria-label", re.compile("last 60 min"))  # all is drawn
    canvas = page.locator("#cpu canvas")
    before = canvas.evaluate("canvas => canvas.toDataURL()")
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("before => document.querySelector('#cpu canvas').toDataURL() !== before", arg=before)
