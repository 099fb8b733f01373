"""The page with messages of an exporter of another version, which lack what this page shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.page.messages import START, file_system, gpu, hour, message, model, server, stamp

if TYPE_CHECKING:
    from tests.page.conftest import OpenPage, Serve
    from tests.page.feed import StandInFeed

IDENTITY = {"id", "server", "model", "name", "mountpoint"}


def whole() -> dict[str, Any]:
    """Return a message with one of each thing."""
    return message(
        START,
        gpus=[gpu(0)],
        models=[model("llama")],
        servers=[server("chat")],
        fileSystems=[file_system("/")],
    )


def lacking(whole_part: dict[str, Any], *, null: bool = False) -> list[dict[str, Any]]:
    """Return the part once for each of its fields: without it, or with null."""
    rest = [(name, {key: whole_part[key] for key in whole_part if key != name}) for name in whole_part]
    return [{**part, name: None} if null else part for name, part in rest if name not in IDENTITY]


@pytest.fixture
def feed(serve: Serve) -> StandInFeed:
    """Serve a whole message."""
    return serve(whole(), hour(START - 2, 1, ("llama",)))


def send_each(feed: StandInFeed, open_page: OpenPage, messages: list[dict[str, Any]]) -> None:
    """Show each message, with a CPU usage of its own, which is shown if the page has no error before."""
    page = open_page(feed.url)
    for number, each in enumerate(messages, 1):
        feed.send({**each, "timestamp": stamp(START + 2 * number), "cpuUsage": number + 0.5})
        expect(page.locator("#cpu .value")).to_have_text(f"{number + 0.5}%")


@pytest.mark.parametrize("null", [False, True])
def test_a_part_is_missing(feed: StandInFeed, open_page: OpenPage, *, null: bool) -> None:
    """The rest of the page goes on."""
    send_each(feed, open_page, lacking(whole(), null=null))


@pytest.mark.parametrize("part", ["gpus", "models", "servers", "fileSystems", "apiStats", "host"])
def test_a_field_is_missing(feed: StandInFeed, open_page: OpenPage, part: str) -> None:
    """Of a GPU, a model, a server, a file system, the API or the host."""
    one = whole()[part]
    if isinstance(one, list):
        send_each(feed, open_page, [{**whole(), part: [item]} for item in lacking(one[0])])
    else:
        send_each(feed, open_page, [{**whole(), part: item} for item in lacking(one)])


def test_an_old_message_is_shown(serve: Serve, open_page: OpenPage) -> None:
    """One with nothing but the time and CPU usage."""
    page = open_page(serve({"timestamp": message()["timestamp"], "interval": 2, "cpuUsage": 44.4}).url)
    expect(page.locator("#cpu .value")).to_have_text("44.4%")
    expect(page.locator("#no-gpu")).to_contain_text("the exporter does not report it")
