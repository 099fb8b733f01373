"""A real browser, and pages in it that are checked for errors and policy violations."""

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
    """Open an address in its own browser context."""

    def __call__(
        self, url: str, *, losing: bool = False, state: str = "live", script: str = "", **context: Any
    ) -> Page:
        """Open it and wait for a state.

        ``losing``: console errors are expected, since connections fail; ``script`` runs before those of the page.
        """
        ...


class Serve(Protocol):
    """Start a stand-in feed that is stopped when the test ends."""

    def __call__(self, message: dict[str, Any], history: dict[str, Any] | None = None, **options: Any) -> StandInFeed:
        """Serve the page with this message and history."""
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
    """Return a function that opens pages; in the end no page has errors or requests to other hosts."""
    with contextlib.ExitStack() as checks:

        def open_(url: str, *, losing: bool = False, state: str = "live", script: str = "", **options: Any) -> Page:
            context = browser.new_context(**{"viewport": {"width": 1440, "height": 1600}, **options})
            context.set_default_timeout(DEADLINE_SECONDS * 1000)
            context.add_init_script(_VIOLATIONS + script)
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
    """Return a function that starts stand-in feeds."""
    with contextlib.ExitStack() as stack:

        def serve_(message: dict[str, Any], history: dict[str, Any] | None = None, **options: Any) -> StandInFeed:
            feed = StandInFeed(message, history, **options)
            stack.callback(feed.close)
            return feed

        yield serve_
