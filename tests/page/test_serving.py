"""Serving the page's files over real sockets."""

from __future__ import annotations

import re
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
    """Return a client of this server."""
    async with ClientSession(feed.url) as session:
        yield session


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/static/app.js", "text/javascript; charset=utf-8"),
        ("/static/app.css", "text/css; charset=utf-8"),
        ("/static/favicon.svg", "image/svg+xml; charset=utf-8"),
        ("/static/icon-192.png", "image/png"),
        ("/static/manifest.webmanifest", "application/manifest+json; charset=utf-8"),
    ],
)
async def test_every_file_has_type_and_security_headers(client: ClientSession, path: str, content_type: str) -> None:
    """Exact type without sniffing; no inline script or style, no other host, no framing; revalidation."""
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
async def test_a_cached_file_is_not_sent_again(client: ClientSession, path: str) -> None:
    """The ETag of the content results in a 304 without a body, another one in a 200."""
    async with client.get(path) as first:
        body, tag = await first.read(), first.headers["ETag"]
    async with client.get(path, headers={"If-None-Match": tag}) as again:
        assert (again.status, await again.read(), again.headers["ETag"]) == (304, b"", tag)
    async with client.get(path, headers={"If-None-Match": '"other"'}) as other:
        assert (other.status, await other.read()) == (200, body)


async def test_the_tag_of_the_page_follows_its_content(feed: StandInFeed, client: ClientSession) -> None:
    """A changed configuration changes the page and its ETag."""
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
    """Not the template, and nothing outside the folder."""
    async with client.get(path) as response:
        assert response.status == 404


async def test_the_page_links_to_metrics_and_health(client: ClientSession) -> None:
    """Metrics, each collector and health have links, also without JavaScript."""
    async with client.get("/") as response:
        text = await response.text()
    for link in ("metrics", "metrics?collect[]=a", "metrics?collect[]=b", "-/healthy", "-/ready", "api/models"):
        assert f'href="{link}"' in text
    assert "Grafana" not in text


async def test_the_link_to_grafana_comes_from_the_configuration(feed: StandInFeed, client: ClientSession) -> None:
    """web.grafana_url is the target of the link, and is escaped."""
    feed.service.config = read({"web": {"grafana_url": 'http://grafana.example/d/x?a="><script>'}})
    async with client.get("/") as response:
        text = await response.text()
    assert 'href="http://grafana.example/d/x?a=&quot;&gt;&lt;script&gt;"' in text


@pytest.mark.parametrize("url", ["javascript:alert(1)", "grafana.example", "http://", "http://a b", "data:text/html,x"])
def test_other_schemes_are_rejected(url: str) -> None:
    """Only http and https URLs."""
    with pytest.raises(ConfigError, match="grafana_url"):
        read({"web": {"grafana_url": url}})


async def test_the_metrics_path_is_the_configured_one(feed: StandInFeed, client: ClientSession) -> None:
    """Links and the address of the feed use web.telemetry_path."""
    feed.service.config = read({"web": {"telemetry_path": "/other/metrics"}})
    async with client.get("/") as response:
        text = await response.text()
    assert 'data-feed="other/metrics"' in text
    assert 'href="other/metrics?collect[]=a"' in text


async def test_all_modules_are_loaded_at_once(client: ClientSession) -> None:
    """Each that a module imports is in the page's head."""
    async with client.get("/") as response:
        text = await response.text()
    modules = [file for file in page.STATIC.glob("*.js") if "import " in file.read_text(encoding="utf-8")]
    imported = {name for file in modules for name in re.findall(r'"\./(\w+\.js)"', file.read_text(encoding="utf-8"))}
    assert len(imported) > 20
    assert imported | {"app.js"} == set(re.findall(r'<link rel="modulepreload" href="static/(\w+\.js)">', text))


def test_every_file_has_a_type() -> None:
    """A file with an unknown suffix fails here, not in a browser."""
    assert {file.suffix for file in page.STATIC.iterdir()} <= page.TYPES.keys()
