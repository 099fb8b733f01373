"""The page of a real exporter through tunnels and reverse proxies, in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.page.reverse_proxy import forwarding, rewritten, unchanged

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.conftest import StartExporter
    from tests.page.conftest import OpenPage

FEEDS = "performance.getEntriesByType('resource').map((entry) => new URL(entry.name).pathname)"


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_a_tunnel_from_any_port(start_exporter: StartExporter, open_page: OpenPage, name: str) -> None:
    """By an address or localhost; the history is there too."""
    exporter = start_exporter("--no-discovery")
    with forwarding(exporter.address, unchanged) as port:
        page = open_page(f"http://{name}:{port}/", losing=True)
        expect(page.locator("#cpu .value")).to_contain_text("%")
        assert "/api/history" in page.evaluate(FEEDS)


def test_a_reverse_proxy_that_replaces_the_host(start_exporter: StartExporter, open_page: OpenPage) -> None:
    """The browser's Origin is then another one than the exporter's: the page loads, and reads server-sent events."""
    exporter = start_exporter("--no-discovery")
    with forwarding(exporter.address, rewritten(exporter.address)) as port:
        page = open_page(f"http://models.localhost:{port}/", losing=True)
        expect(page.locator("#cpu .value")).to_contain_text("%")
        expect(page.locator("#notice")).to_be_hidden()


def test_a_name_that_is_not_known_is_shown_with_the_flag_that_allows_it(
    start_exporter: StartExporter, open_page: OpenPage, browser: Browser
) -> None:
    """With the flag the page works."""
    exporter = start_exporter("--no-discovery")
    with forwarding(exporter.address, unchanged) as port, browser.new_page() as refused:
        refused.goto(f"http://models.localhost:{port}/")
        assert refused.inner_text("body").strip() == (
            f'the host "models.localhost:{port}" is not known: add --web.allowed-host=models.localhost to allow it'
        )
    exporter.stop()
    allowed = start_exporter("--no-discovery", "--web.allowed-host=models.localhost")
    with forwarding(allowed.address, unchanged) as port:
        page = open_page(f"http://models.localhost:{port}/", losing=True)
        expect(page.locator("#cpu .value")).to_contain_text("%")
