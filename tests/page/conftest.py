"""A real browser, and a page in it that is watched for what must never happen."""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect, sync_playwright

from modelhost_exporter import page as live_page
from tests.page.feed import StandInFeed
from tests.support.programs import DEADLINE_SECONDS, installed, missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

_VIOLATIONS = """
globalThis.violations = [];
addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective));
"""


class OpenPage(Protocol):
    """Opens an address in a context of its own."""

    def __call__(self, url: str, *, losing: bool = False, state: str = "live", **context: Any) -> Page:
        """Open it and wait until it is in a state; ``losing``: a browser complains, since something goes wrong."""
        ...


class Serve(Protocol):
    """Starts a stand-in feed; it is stopped when the test ends."""

    def __call__(self, message: dict[str, Any], history: dict[str, Any] | None = None, **options: Any) -> StandInFeed:
        """Serve the page and these."""
        ...


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start Debian's Chromium."""
    if not (live_page.STATIC / live_page.CHART_LIBRARY).exists():
        missing("the charts are not built: pip install --editable .")
    program = installed("chromium", "chromium-browser", "google-chrome")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Give a function that opens pages; at the end none has complained or asked another host."""
    with contextlib.ExitStack() as checks:

        def open_(url: str, *, losing: bool = False, state: str = "live", **options: Any) -> Page:
            context = browser.new_context(**{"viewport": {"width": 1440, "height": 1600}, **options})
            context.set_default_timeout(DEADLINE_SECONDS * 1000)
            context.add_init_script(_VIOLATIONS)
            page = context.new_page()
            complaints: list[str] = []
            hosts: set[str] = set()
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
            page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
            page.on("websocket", lambda socket: hosts.add(urlsplit(socket.url).netloc))

            def check() -> None:
                violations = page.evaluate("violations")
                context.close()
                assert violations == []
                assert hosts == {urlsplit(url).netloc}
                assert losing or complaints == []

            checks.callback(check)
            page.goto(url)
            expect(page.locator("body")).to_have_attribute(
                "data-state", re.compile(state), timeout=DEADLINE_SECONDS * 1000
            )
            return page

        yield open_


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Give a function that starts stand-in feeds."""
    with contextlib.ExitStack() as stack:

        def serve_(message: dict[str, Any], history: dict[str, Any] | None = None, **options: Any) -> StandInFeed:
            feed = StandInFeed(message, history, **options)
            stack.callback(feed.close)
            return feed

        yield serve_
