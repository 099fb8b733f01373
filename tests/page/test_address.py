"""What the page's address and the browser's storage keep: range, zoom, model, theme; and the link to Grafana."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, expect

from modelhost_exporter.config.model import read
from tests.page.messages import START, hour, message, model
from tests.page.pointing import drag, period, wait_for_hour

if TYPE_CHECKING:
    from tests.page.conftest import OpenPage, Serve
    from tests.page.feed import StandInFeed

FORBIDDEN = """
Object.defineProperty(globalThis, "localStorage", { get() { throw new DOMException("forbidden", "SecurityError"); } });
"""
BACKGROUND_AT_THE_BODY = """
new MutationObserver((_, observer) => {
  if (!document.body) return;
  globalThis.early = getComputedStyle(document.documentElement).getPropertyValue("--page");
  observer.disconnect();
}).observe(document, { childList: true, subtree: true });
"""
LIGHT, DARK = "#f4f5f7", "#0d1015"


@pytest.fixture
def feed(serve: Serve) -> StandInFeed:
    """Serve an hour with two models."""
    models = [model("big/one"), model("small")]
    return serve(message(START, models=models), hour(START - 2, models=("big/one", "small")))


def chosen(page: Page) -> tuple[str, str]:
    """Return the range and the model that are selected."""
    seconds = page.locator("[name=range]:checked").input_value()
    return seconds, page.get_by_label("Model", exact=True).input_value()


def background(page: Page) -> str:
    """Return the page's background, which differs between the themes."""
    colour: str = page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--page')")
    return colour


def test_a_link_shows_the_same(feed: StandInFeed, open_page: OpenPage) -> None:
    """Range, model and zoom are in the address, which shows them in another browser and after a reload."""
    page = open_page(feed.url)
    wait_for_hour(page)
    page.get_by_label("15 min", exact=True).check()
    page.get_by_label("Model", exact=True).select_option("chat/small")
    drag(page, "cpu", 0.2, 0.4)
    expect(page).to_have_url(re.compile(r"\?range=15m&from=\d+&to=\d+&model=chat%2Fsmall$"))
    for other in (open_page(page.url), page):
        other.reload()
        expect(other.get_by_role("button", name="Zoom out")).to_be_visible()
        expect(other.locator("[data-chart=cpu]")).to_have_attribute("aria-label", re.compile(" to "))
        assert (chosen(other), period(other)) == (("900", "chat/small"), period(page))


def test_back_and_forward(feed: StandInFeed, open_page: OpenPage) -> None:
    """Each choice is an entry in the browser's history."""
    page = open_page(feed.url)
    wait_for_hour(page)
    page.get_by_label("5 min", exact=True).check()
    page.get_by_role("button", name="small").click()  # in the table
    assert chosen(page) == ("300", "chat/small")
    page.go_back()
    expect(page.get_by_label("Model", exact=True)).to_have_value("chat/big/one")
    page.go_back()
    wait_for_hour(page)
    assert chosen(page) == ("3600", "chat/big/one")
    page.go_forward()
    expect(page.locator("[data-chart=cpu]")).to_have_attribute("aria-label", re.compile("last 5 min"))


@pytest.mark.parametrize(
    "query",
    [
        "range=2h&model=chat%2Fgone",
        "range=&from=abc&to=-5",
        "from=2&to=1",
        "from=1&to=2",
        "range[]=5m&model=%00%ff",
        "from=1&to=1e300",
    ],
)
def test_wrong_values_are_ignored(feed: StandInFeed, open_page: OpenPage, query: str) -> None:
    """The page shows the last hour of the first model."""
    page = open_page(f"{feed.url}/?{query}")
    wait_for_hour(page)
    assert chosen(page) == ("3600", "chat/big/one")
    expect(page.locator("#chart-state")).to_be_hidden()


def test_a_model_of_the_address_is_selected_when_it_appears(feed: StandInFeed, open_page: OpenPage) -> None:
    """Until then the first one is."""
    page = open_page(f"{feed.url}/?model=chat%2Flate")
    expect(page.get_by_label("Model", exact=True)).to_have_value("chat/big/one")
    feed.send(message(START + 2, models=[model("big/one"), model("late")]))
    expect(page.get_by_label("Model", exact=True)).to_have_value("chat/late")


def test_choices_are_remembered(feed: StandInFeed, open_page: OpenPage) -> None:
    """The next visit, without an address, has range, model and theme."""
    page = open_page(feed.url, color_scheme="light")
    page.get_by_label("5 min", exact=True).check()
    page.get_by_label("Model", exact=True).select_option("chat/small")
    theme = page.get_by_role("button", name="Theme: system")
    theme.click()
    page.get_by_role("button", name="Theme: light").click()
    page.goto(feed.url)
    expect(page.get_by_label("Model", exact=True)).to_have_value("chat/small")
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    assert (chosen(page), background(page)) == (("300", "chat/small"), DARK)


def test_the_page_works_where_nothing_is_stored(feed: StandInFeed, open_page: OpenPage) -> None:
    """Choices then last until the page is closed."""
    page = open_page(feed.url, script=FORBIDDEN, color_scheme="dark")
    page.get_by_label("5 min", exact=True).check()
    page.get_by_role("button", name="Theme: system").click()
    expect(page.locator("[data-chart=cpu]")).to_have_attribute("aria-label", re.compile("last 5 min"))
    assert background(page) == LIGHT


@pytest.mark.parametrize(("system", "theme", "expected"), [("light", "dark", DARK), ("dark", "light", LIGHT)])
def test_a_chosen_theme_is_there_before_anything_is_drawn(
    feed: StandInFeed, open_page: OpenPage, system: str, theme: str, expected: str
) -> None:
    """The page's body begins with it, so that nothing flashes; charts have its colours."""
    script = f"localStorage.setItem('theme', '{theme}');{BACKGROUND_AT_THE_BODY}"
    page = open_page(feed.url, script=script, color_scheme=system)
    assert page.evaluate("early") == background(page) == expected
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == theme


def test_the_theme_is_that_of_the_system_again(feed: StandInFeed, open_page: OpenPage) -> None:
    """The third click follows the system."""
    page = open_page(feed.url, color_scheme="dark")
    seen = [background(page)]
    for _ in range(3):
        page.locator("#theme").click()
        seen.append(background(page))
    assert seen == [DARK, LIGHT, DARK, DARK]
    page.emulate_media(color_scheme="light")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    assert background(page) == LIGHT


def grafana(page: Page) -> str:
    """Return the target of the link to Grafana."""
    return page.get_by_role("link", name="Grafana").get_attribute("href") or ""


def test_grafana_opens_at_the_same_time_and_model(feed: StandInFeed, open_page: OpenPage) -> None:
    """A range that goes on, or the times of a zoom."""
    feed.service.config = read({"web": {"grafana_url": "http://grafana.example/sub/"}})
    page = open_page(feed.url)
    wait_for_hour(page)
    page.get_by_label("5 min", exact=True).check()
    page.get_by_label("Model", exact=True).select_option("chat/small")
    board = "http://grafana.example/sub/d/modelhost-models?var-server=chat&var-model=small"
    assert grafana(page) == f"{board}&from=now-5m&to=now"
    drag(page, "cpu", 0.2, 0.4)
    expect(page.get_by_role("button", name="Zoom out")).to_be_visible()
    match = re.fullmatch(re.escape(board) + r"&from=(\d+)&to=(\d+)", grafana(page))
    assert match
    assert (int(match[2]) - int(match[1])) / 1000 == pytest.approx(60, abs=3)


def test_a_dashboard_of_ones_own_gets_the_time(serve: Serve, open_page: OpenPage) -> None:
    """Its other parameters stay; without a model the overview is opened."""
    feed = serve(message(START), hour(START - 2))
    for url, expected in (
        ("https://g.example/d/own/title?orgId=2", "https://g.example/d/own/title?orgId=2&from=now-60m&to=now"),
        ("https://g.example", "https://g.example/d/modelhost-overview?from=now-60m&to=now"),
    ):
        feed.service.config = read({"web": {"grafana_url": url}})
        assert grafana(open_page(feed.url)) == expected
