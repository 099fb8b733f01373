"""The card of recent requests, in a real browser."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from playwright.sync_api import Page, expect

from modelhost_exporter.config.model import Config
from modelhost_exporter.live.recent_requests import ERROR, IN_PROGRESS, OUTCOMES
from modelhost_exporter.requests.settings import RequestOptions
from tests.page.messages import START, message, model
from tests.page.test_access import LOW_CONTRAST
from tests.support.programs import wait_until

if TYPE_CHECKING:
    from tests.page.conftest import OpenPage, Serve
    from tests.page.feed import StandInFeed

MARKUP = '<img src=x onerror="document.body.dataset.broken=1">'


def finished(**fields: Any) -> dict[str, Any]:
    """Return a finished request."""
    return {
        "time": "2026-01-01T12:00:00.000Z",
        "server": "chat",
        "model": "llama",
        "operation": "chat",
        "state": "finished",
        "outcome": "ok",
        "code": "200",
        "timeToFirstToken": 420.0,
        "duration": 3250.0,
        "inputTokens": 1200,
        "outputTokens": 300,
        "tokensPerSecond": 106.0,
        "finishReason": "stop",
        "client": None,
        **fields,
    }


def running(**fields: Any) -> dict[str, Any]:
    """Return a request in progress."""
    unknown = ("outcome", "code", "timeToFirstToken", "inputTokens", "outputTokens", "tokensPerSecond", "finishReason")
    return {**finished(state="streaming", duration=61_000.0), **dict.fromkeys(unknown), **fields}


def cells(page: Page, row: int = 0) -> list[str]:
    """Return the texts of the visible cells of a row, without its time of day."""
    texts = page.locator("#recent-rows tr").nth(row).locator("td:visible, th").all_inner_texts()
    return [text.replace("\u202f", " ") for text in texts[1:]]


@pytest.fixture
def feed(serve: Serve) -> StandInFeed:
    """Serve the page of an exporter with one request in progress and two finished ones."""
    feed = serve(message(models=[model("llama"), model("phi")]))
    feed.requests = [running(), finished(), finished(outcome="timeout", code="504", finishReason=None)]
    return feed


def test_requests_are_fetched_only_while_the_card_is_open(feed: StandInFeed, open_page: OpenPage) -> None:
    """Every two seconds; not before it is opened, and not after it is closed."""
    page = open_page(feed.url)
    expect(page.locator("#recent-frame")).to_be_hidden()
    feed.send(message(START + 2, cpuUsage=71))
    expect(page.locator("[data-show=cpu]")).to_contain_text("71")
    assert feed.queries == []
    page.clock.install()
    page.locator("#recent summary").click()
    expect(page.locator("#recent-rows tr")).to_have_count(3)
    page.clock.run_for(2000)
    wait_until(lambda: len(feed.queries) >= 2, "the requests are fetched again")
    page.locator("#recent summary").click()
    expect(page.locator("#recent-frame")).to_be_hidden()
    fetched = len(feed.queries)
    page.clock.run_for(10_000)
    page.evaluate("fetch('api/history').then((response) => response.text())")
    assert len(feed.queries) == fetched


def test_the_title_has_the_number_in_progress(feed: StandInFeed, open_page: OpenPage) -> None:
    """Also while the card is closed; nothing where there are none."""
    page = open_page(feed.url)
    expect(page.locator("#recent summary")).to_have_text("Recent requests 8 in progress")
    feed.send(message(START + 2, models=[model("llama", inFlight=0), model("phi", inFlight=None)]))
    expect(page.locator("#recent summary")).to_have_text("Recent requests ")


def test_requests_in_progress_are_first_and_their_time_goes_on(feed: StandInFeed, open_page: OpenPage) -> None:
    """Without another answer of the exporter; errors are red."""
    page = open_page(feed.url)
    page.locator("#recent summary").click()
    expect(page.locator("#recent-rows tr")).to_have_count(3)
    place = ["llama", "chat", "chat"]
    assert cells(page, 1) == [*place, "ok", "200", "stop", "420 ms", "3.25 s", "1,200", "300", "106 tok/s"]
    assert cells(page, 2)[3:6] == ["timeout", "504", ""]
    expect(page.locator("#recent-rows [data-is=alarm]")).to_have_text("timeout")
    now = cells(page)
    assert (now[:6], now[8:]) == ([*place, "streaming", "", ""], ["–", "–", "–"])
    feed.hangs = True
    wait_until(lambda: feed.waiting > 0, "the next answer does not come")
    shown = cells(page)[7]
    wait_until(lambda: cells(page)[7] != shown, "the running time goes on")
    feed.hangs = False


def test_a_finished_request_replaces_the_one_in_progress(feed: StandInFeed, open_page: OpenPage) -> None:
    """And rows that are gone leave; without any there is a sentence."""
    page = open_page(feed.url)
    page.locator("#recent summary").click()
    expect(page.locator("#recent-rows tr")).to_have_count(3)
    feed.requests = [finished(model="new")]
    expect(page.locator("#recent-rows tr")).to_have_count(1)
    assert cells(page)[0] == "new"
    feed.requests = []
    expect(page.get_by_text("No such request yet.")).to_be_visible()
    expect(page.locator("#recent-frame")).to_be_hidden()


def test_filters_select_model_and_outcome(feed: StandInFeed, open_page: OpenPage) -> None:
    """They are those of the API, and those of the exported files; a chosen model stays when it is gone."""
    page = open_page(feed.url)
    page.locator("#recent summary").click()
    page.get_by_label("Filter by model").select_option("chat/llama")
    page.get_by_label("Filter by outcome").select_option("All but ok")
    wanted = {"model": "chat/llama", "outcome": "error"}
    wait_until(lambda: bool(feed.queries) and feed.queries[-1] == {**wanted, "limit": "100"}, "the filters are used")
    for name in ("json", "csv"):
        query = urlsplit(page.locator(f"#recent-{name}").evaluate("link => link.href")).query
        assert dict(parse_qsl(query)) == {**wanted, "format": name}
    offered = page.locator("#recent-outcome option").evaluate_all("options => options.map((each) => each.value)")
    assert set(offered) == {"", ERROR, IN_PROGRESS, *OUTCOMES}
    feed.send(message(START + 2, models=[model("new")]))
    expect(page.locator("#recent-model option")).to_have_text(["All models", "chat/llama", "chat/new"])


def test_names_are_never_markup(feed: StandInFeed, open_page: OpenPage) -> None:
    """Nor is any other text of a request."""
    names = ("server", "model", "operation", "outcome", "code", "finishReason")
    feed.requests = [finished(**dict.fromkeys(names, MARKUP)), running(state=MARKUP)]
    page = open_page(feed.url)
    page.locator("#recent summary").click()
    expect(page.locator("#recent-rows th").first).to_have_text(MARKUP)
    assert cells(page).count(MARKUP) == len(names)
    assert page.locator("main img").count() == 0
    assert page.locator("body").get_attribute("data-broken") is None


def test_a_phone_shows_the_columns_that_matter(feed: StandInFeed, open_page: OpenPage) -> None:
    """Time, model, outcome and duration without scrolling."""
    page = open_page(feed.url, viewport={"width": 390, "height": 900})
    page.locator("#recent summary").click()
    expect(page.locator("#recent-rows tr")).to_have_count(3)
    titles = page.locator("#recent thead th:visible").all_inner_texts()
    assert titles == ["Time", "Model", "Outcome", "First token", "Duration", "Input", "Output", "Speed"]
    duration = page.locator("#recent thead th").nth(8).bounding_box()
    assert duration is not None
    assert duration["x"] + duration["width"] <= 390


def test_clients_have_a_column_where_they_are_known(feed: StandInFeed, open_page: OpenPage) -> None:
    """Where requests.client is configured; without it there is none."""
    page = open_page(feed.url)
    page.locator("#recent summary").click()
    expect(page.locator("#recent-rows tr")).to_have_count(3)
    expect(page.get_by_role("columnheader", name="Client")).to_be_hidden()
    feed.requests = [finished(client=MARKUP), finished()]
    expect(page.get_by_role("columnheader", name="Client")).to_be_visible()
    assert (cells(page)[-1], cells(page, 1)[-1]) == (MARKUP, "")


def test_an_exporter_that_stops_is_reported(feed: StandInFeed, open_page: OpenPage) -> None:
    """The rows stay."""
    page = open_page(feed.url, losing=True)
    page.locator("#recent summary").click()
    expect(page.locator("#recent-rows tr")).to_have_count(3)
    feed.close()
    expect(page.get_by_text("The exporter does not respond.")).to_be_visible()
    expect(page.locator("#recent-rows tr")).to_have_count(3)


def test_there_is_no_card_where_it_is_switched_off(feed: StandInFeed, open_page: OpenPage) -> None:
    """With ``requests: {recent: false}``."""
    feed.service.config = Config(requests=RequestOptions(recent=False))
    page = open_page(feed.url)
    expect(page.locator("#recent")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_of_the_card_has_enough_contrast(feed: StandInFeed, open_page: OpenPage, scheme: str) -> None:
    """At least 4.5 in both themes."""
    page = open_page(feed.url, color_scheme=scheme)
    page.locator("#recent summary").click()
    expect(page.locator("#recent-rows tr")).to_have_count(3)
    assert page.evaluate(LOW_CONTRAST)["low"] == []


@pytest.mark.parametrize("width", [320, 1440])
def test_the_table_scrolls_in_its_card(feed: StandInFeed, open_page: OpenPage, width: int) -> None:
    """The page is not wider than the screen, whatever the names are."""
    feed.requests = [finished(model="a-name-without-an-end" * 9, server="s" * 99)] * 40
    page = open_page(feed.url, viewport={"width": width, "height": 900})
    page.locator("#recent summary").click()
    expect(page.locator("#recent-rows tr")).to_have_count(40)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_running_times_stand_still_without_the_exporter(serve: Serve, open_page: OpenPage) -> None:
    """What is not known to run any longer does not go on."""
    feed = serve(message())
    feed.requests = [finished(outcome=None, state="streaming", code=None, duration=90_000.0)]
    page = open_page(feed.url, losing=True)
    page.clock.install()
    page.locator("#recent summary").click()
    duration = page.locator("#recent-rows [data-cell=duration]")
    expect(duration).to_have_text(re.compile(r"\d"))
    page.clock.run_for(1000)
    page.route("**/api/requests*", lambda route: route.abort())
    page.clock.run_for(2000)
    expect(page.locator("#recent-note")).to_have_text("The exporter does not respond.")
    before = duration.text_content()
    page.clock.run_for(1000)
    assert duration.text_content() == before
    page.unroute("**/api/requests*")
    feed.requests = [finished(outcome=None, state="streaming", code=None, duration=30_000.0)]
    page.clock.run_for(2000)
    expect(page.locator("#recent-note")).to_be_hidden()
    expect(duration).to_have_text(re.compile(r"^3\d\.[1-9]"))
