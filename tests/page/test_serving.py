"""How the page's files are served, over real sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientSession

from modelhost_exporter import page
from modelhost_exporter.config.model import ConfigError, read
from tests.page.feed import StandInFeed
from tests.page.messages import message
from tests.support.fakes import Fixed, family

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture
def feed() -> Iterator[StandInFeed]:
    """Serve the page of an exporter with two collectors."""
    server = StandInFeed(message(), collectors={"a": Fixed(family("modelhost_a")), "b": Fixed(family("modelhost_b"))})
    yield server
    server.close()


@pytest.fixture
async def client(feed: StandInFeed) -> AsyncIterator[ClientSession]:
    """Give a client whose paths are the server's."""
    async with ClientSession(feed.url) as session:
        yield session


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/static/app.js", "text/javascript; charset=utf-8"),
        ("/static/app.css", "text/css; charset=utf-8"),
        ("/static/favicon.svg", "image/svg+xml; charset=utf-8"),
    ],
)
async def test_every_file_says_what_it_is_and_what_it_may(client: ClientSession, path: str, content_type: str) -> None:
    """Exact types that are not guessed at, no inline script or style, no other host, no framing, and fresh."""
    async with client.get(path) as response:
        headers = response.headers
    assert headers["Content-Type"] == content_type
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-cache"
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/", "/static/app.css"])
async def test_what_a_browser_has_is_not_sent_again(client: ClientSession, path: str) -> None:
    """The tag of the content answers 304 without a body, another one 200."""
    async with client.get(path) as first:
        body, tag = await first.read(), first.headers["ETag"]
    async with client.get(path, headers={"If-None-Match": tag}) as again:
        assert (again.status, await again.read(), again.headers["ETag"]) == (304, b"", tag)
    async with client.get(path, headers={"If-None-Match": '"other"'}) as other:
        assert (other.status, await other.read()) == (200, body)


async def test_the_tag_of_the_page_follows_its_content(feed: StandInFeed, client: ClientSession) -> None:
    """A changed configuration is a changed page."""
    async with client.get("/") as first:
        tag = first.headers["ETag"]
    feed.service.config = read({"web": {"grafana_url": "http://127.0.0.1:3000"}})
    async with client.get("/", headers={"If-None-Match": tag}) as again:
        assert again.status == 200


@pytest.mark.parametrize(
    "path",
    ["/static/", "/static/index.html", "/static/no.js", "/static/..%2F__init__.py", "/static/%2e%2e/__init__.py"],
)
async def test_only_the_pages_own_files_are_served(client: ClientSession, path: str) -> None:
    """Neither the template nor anything outside the folder."""
    async with client.get(path) as response:
        assert response.status == 404


async def test_the_page_links_to_what_else_there_is(client: ClientSession) -> None:
    """Metrics, each collector and health are a click away, also without JavaScript."""
    async with client.get("/") as response:
        text = await response.text()
    for link in ("metrics", "metrics?collect[]=a", "metrics?collect[]=b", "-/healthy", "-/ready", "api/models"):
        assert f'href="{link}"' in text
    assert "Grafana" not in text


async def test_the_link_to_grafana_comes_from_the_configuration(feed: StandInFeed, client: ClientSession) -> None:
    """web.grafana_url makes the link; what stands in it stays an address."""
    feed.service.config = read({"web": {"grafana_url": 'http://grafana.example/d/x?a="><script>'}})
    async with client.get("/") as response:
        text = await response.text()
    assert 'href="http://grafana.example/d/x?a=&quot;&gt;&lt;script&gt;"' in text


@pytest.mark.parametrize("url", ["javascript:alert(1)", "grafana.example", "http://", "http://a b", "data:text/html,x"])
def test_a_link_that_leads_nowhere_is_refused(url: str) -> None:
    """Only http and https URLs."""
    with pytest.raises(ConfigError, match="grafana_url"):
        read({"web": {"grafana_url": url}})


async def test_the_metrics_path_is_the_configured_one(feed: StandInFeed, client: ClientSession) -> None:
    """Links and the feed's address follow web.telemetry_path."""
    feed.service.config = read({"web": {"telemetry_path": "/other/metrics"}})
    async with client.get("/") as response:
        text = await response.text()
    assert 'data-feed="other/metrics"' in text
    assert 'href="other/metrics?collect[]=a"' in text


def test_every_file_has_a_type() -> None:
    """A file that is added without a type fails here, not in a browser."""
    assert {file.suffix for file in page.STATIC.iterdir()} <= page.TYPES.keys()
