"""The routes of the web port, over real sockets."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import socket
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import pytest
from aiohttp import ClientSession, web
from prometheus_client import CollectorRegistry

from modelhost_exporter.collector import Paths
from modelhost_exporter.config.model import Config, Web
from modelhost_exporter.live import host_sources
from modelhost_exporter.live.settings import LiveOptions
from modelhost_exporter.metrics.exposition import OPENMETRICS, TEXT
from modelhost_exporter.reloads import ReloadFailed, Reloads
from modelhost_exporter.scraping.readiness import Readiness
from modelhost_exporter.scraping.scrape import Scrape
from modelhost_exporter.web.routes import build_app, scrape_timeout
from tests.support.fakes import Fixed, Hanging, family, samples

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from modelhost_exporter.live.host_sources import HostSources
    from modelhost_exporter.service import Service


@dataclass
class _Service:
    """The parts of the running exporter that the web port uses."""

    scrape: Scrape
    config: Config = field(default_factory=Config)
    mistake: ReloadFailed | None = None
    reloaded: int = 0
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    demo: bool = False
    host: HostSources = field(default_factory=lambda: host_sources.this_machine(Paths))

    def __post_init__(self) -> None:
        self.readiness = Readiness()
        self.readiness.missing = ""
        self.config = replace(self.config, live=LiveOptions(history=False))  # nothing is measured for the live feed
        self.reloads = Reloads(self._reload, lambda error: ReloadFailed(str(error)))

    def _reload(self) -> None:
        if self.mistake:
            raise self.mistake
        self.reloaded += 1


def _two() -> Scrape:
    many = [family(f"modelhost_many{number}") for number in range(40)]
    return Scrape({"a": Fixed(family("modelhost_a")), "b": Fixed(family("modelhost_b"), *many)}, 5.0)


@asynccontextmanager
async def _serving(service: _Service) -> AsyncIterator[tuple[str, ClientSession]]:
    runner = web.AppRunner(
        build_app(cast("Service", service)), access_log=None, handler_cancellation=True, shutdown_timeout=0.1
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with ClientSession(auto_decompress=False, skip_auto_headers=["Accept-Encoding"]) as client:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}", client
    finally:
        await runner.cleanup()


@pytest.fixture
async def served() -> AsyncIterator[tuple[str, ClientSession]]:
    """Serve two healthy collectors."""
    async with _serving(_Service(_two())) as both:
        yield both


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    """Give a hanging collector, released at the end."""
    collector = Hanging()
    yield collector
    collector.release.set()


async def test_the_format_follows_the_accept_header(served: tuple[str, ClientSession]) -> None:
    """Text by default, OpenMetrics if it is preferred, each with its exact content type."""
    url, client = served
    async with client.get(f"{url}/metrics") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == TEXT.content_type
        assert b"# EOF" not in await response.read()
    async with client.get(f"{url}/metrics", headers={"Accept": "application/openmetrics-text"}) as response:
        assert response.headers["Content-Type"] == OPENMETRICS.content_type
        assert (await response.read()).endswith(b"# EOF\n")


async def test_a_page_is_compressed_for_who_wants_it(served: tuple[str, ClientSession]) -> None:
    """With Accept-Encoding: gzip the page is gzip and the same; without it is plain; a tiny page stays plain."""
    url, client = served
    async with client.get(f"{url}/metrics", headers={"Accept-Encoding": "gzip"}) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert ("modelhost_many7", ()) in samples(gzip.decompress(await response.read()))
    async with client.get(f"{url}/metrics", headers={"Accept-Encoding": "gzip;q=0"}) as response:
        assert "Content-Encoding" not in response.headers
        assert response.headers["Vary"] == "Accept, Accept-Encoding"  # what caches must tell apart
        assert ("modelhost_many7", ()) in samples(await response.read())


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", {"a", "b"}),
        ("?collect[]=a", {"a"}),
        ("?collect%5B%5D=a&collect[]=b", {"a", "b"}),
        ("?exclude[]=a", {"b"}),
        ("?exclude[]=a&exclude[]=b", set()),
    ],
)
async def test_a_query_chooses_collectors(served: tuple[str, ClientSession], query: str, names: set[str]) -> None:
    """collect[] names those that run, exclude[] those that do not."""
    url, client = served
    async with client.get(f"{url}/metrics{query}") as response:
        page = samples(await response.read())
    assert {name for name in ("a", "b") if (f"modelhost_{name}", ()) in page} == names


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("?collect[]=c", "no enabled collector 'c'; enabled: a, b\n"),
        ("?exclude[]=", "no enabled collector ''; enabled: a, b\n"),
        ("?collect[]=a&exclude[]=b", "use collect[] or exclude[], not both\n"),
    ],
)
async def test_a_wrong_choice_is_refused(served: tuple[str, ClientSession], query: str, message: str) -> None:
    """An unknown collector, or both parameters, get a 400 with the reason."""
    url, client = served
    async with client.get(f"{url}/metrics{query}") as response:
        assert (response.status, await response.text()) == (400, message)


async def test_a_scrapes_time_out_bounds_the_page(hanging: Hanging) -> None:
    """X-Prometheus-Scrape-Timeout-Seconds less a tenth is the deadline when it is shorter than the configured one."""
    async with _serving(_Service(Scrape({"hanging": hanging}, 30.0))) as (url, client):
        headers = {"X-Prometheus-Scrape-Timeout-Seconds": "0.2"}
        async with client.get(f"{url}/metrics", headers=headers) as response:
            page = samples(await response.read())
    assert page["modelhost_scrape_timeout_seconds", ()] == pytest.approx(0.18)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("10", 9),
        ("0.5", 0.45),
        (None, None),
        ("", None),
        ("x", None),
        ("-1", None),
        ("0", None),
        ("nan", None),
        ("inf", None),
    ],
)
def test_an_unusable_time_out_is_ignored(header: str | None, expected: float | None) -> None:
    """Only a positive, finite number of seconds counts."""
    assert scrape_timeout(header) == (None if expected is None else pytest.approx(expected))


async def test_scrapes_beyond_the_limit_are_answered_503(hanging: Hanging) -> None:
    """At the limit the next scrape is refused at once; after one has ended scrapes are served again."""
    service = _Service(Scrape({"hanging": hanging}, 20.0), Config(web=Web(max_requests=1)))
    async with _serving(service) as (url, client):
        first = asyncio.ensure_future(client.get(f"{url}/metrics"))
        assert await asyncio.to_thread(hanging.entered.acquire, timeout=10)
        async with client.get(f"{url}/metrics") as refused:
            assert refused.status == 503
            assert await refused.text() == "1 scrapes are being served already (web.max_requests)\n"
        async with client.get(f"{url}/-/healthy") as healthy:
            assert healthy.status == 200
        hanging.release.set()
        assert (await first).status == 200
        async with client.get(f"{url}/metrics") as again:
            assert again.status == 200


async def test_a_client_that_leaves_keeps_its_place_until_its_page_is_done(hanging: Hanging) -> None:
    """Clients that connect and disconnect do not exceed the limit, and are no longer counted in the end."""
    service = _Service(Scrape({"hanging": hanging}, 20.0), Config(web=Web(max_requests=1)))
    async with _serving(service) as (url, client):
        first = asyncio.ensure_future(client.get(f"{url}/metrics"))
        assert await asyncio.to_thread(hanging.entered.acquire, timeout=10)
        first.cancel()
        async with client.get(f"{url}/metrics") as refused:
            assert refused.status == 503
        hanging.release.set()
        for _ in range(1000):
            async with client.get(f"{url}/metrics") as again:
                if again.status == 200:
                    break
        assert again.status == 200


async def test_the_event_loop_is_free_while_a_page_is_made(hanging: Hanging) -> None:
    """Another request is served while a scrape waits for a collector."""
    async with _serving(_Service(Scrape({"hanging": hanging}, 20.0))) as (url, client):
        first = asyncio.ensure_future(client.get(f"{url}/metrics"))
        assert await asyncio.to_thread(hanging.entered.acquire, timeout=10)
        async with client.get(f"{url}/-/ready") as ready:
            assert ready.status == 200
        assert not first.done()
        hanging.release.set()
        await first


async def test_readiness_has_a_reason() -> None:
    """Until the first collection is over, and while the exporter stops, the page for readiness is a 503."""
    service = _Service(_two())
    async with _serving(service) as (url, client):
        service.readiness.missing = "the first collection is not over"
        async with client.get(f"{url}/-/ready") as response:
            assert response.status == 503
            assert await response.text() == "modelhost-exporter is not ready: the first collection is not over.\n"
        async with client.get(f"{url}/-/healthy") as response:
            assert response.status == 200


async def test_a_page_is_made_outside_the_event_loops_thread() -> None:
    """Collecting the exporter's own metrics and rendering happen in a thread that is not the loop's."""
    seen: list[int] = []

    class Own:
        def collect(self) -> list[object]:
            seen.append(threading.get_ident())
            return []

    service = _Service(Scrape({}, 5.0, own=cast("Fixed", Own())))
    async with _serving(service) as (url, client), client.get(f"{url}/metrics") as response:
        assert response.status == 200
    assert seen
    assert threading.get_ident() not in seen


async def test_head_has_the_headers_and_no_body(served: tuple[str, ClientSession]) -> None:
    """HEAD /metrics answers like GET, without the page."""
    url, client = served
    async with client.head(f"{url}/metrics") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == TEXT.content_type
        assert await response.read() == b""


async def test_unknown_paths_and_methods_are_plain_errors(served: tuple[str, ClientSession]) -> None:
    """404 and 405 are one line of text."""
    url, client = served
    async with client.get(f"{url}/nowhere") as response:
        assert (response.status, await response.text()) == (404, "Not Found: GET /nowhere\n")
    async with client.post(f"{url}/metrics") as response:
        assert (response.status, await response.text()) == (405, "Method Not Allowed: POST /metrics\n")
        assert "GET" in response.headers["Allow"]


async def test_a_page_without_memory_is_refused_and_gives_its_place_back() -> None:
    """Each gets a 503, and later ones are served: the count of scrapes is right."""

    class Starved(Scrape):
        missing = 3

        def page(self, *arguments: Any, **options: Any) -> bytes:
            self.missing -= 1
            if self.missing >= 0:
                raise MemoryError
            return super().page(*arguments, **options)

    service = _Service(Starved({"a": Fixed(family("modelhost_a"))}, 5.0), Config(web=Web(max_requests=1)))
    async with _serving(service) as (url, client):
        for _ in range(3):
            async with client.get(f"{url}/metrics") as response:
                assert (response.status, await response.text()) == (503, "out of memory\n")
        async with client.get(f"{url}/metrics") as response:
            assert response.status == 200


async def test_reload_over_http_is_off_by_default() -> None:
    """POST /-/reload is refused unless the configuration allows it."""
    service = _Service(_two())
    async with _serving(service) as (url, client), client.post(f"{url}/-/reload") as response:
        assert response.status == 403
    assert service.reloaded == 0


async def test_reload_over_http_says_what_happened() -> None:
    """If allowed, it reloads; an invalid configuration is a 500 with the error."""
    service = _Service(_two(), Config(web=Web(enable_lifecycle=True)))
    async with _serving(service) as (url, client):
        async with client.post(f"{url}/-/reload") as response:
            assert (response.status, await response.text()) == (200, "reloaded\n")
        service.mistake = ReloadFailed("web: must be a mapping")
        async with client.post(f"{url}/-/reload") as response:
            assert (response.status, await response.text()) == (500, "web: must be a mapping\n")
        async with client.get(f"{url}/-/reload") as response:
            assert response.status == 405
    assert service.reloaded == 1


async def test_hostile_bytes_do_no_harm(served: tuple[str, ClientSession]) -> None:
    """Invalid HTTP gets a 400, and the next scrape is served."""
    url, client = served
    port = int(url.rpartition(":")[2])
    for hostile in (
        b"\x00\xff\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"GET " + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(hostile)
        assert (await reader.readline()).split()[1] == b"400"
        writer.close()
    async with client.get(f"{url}/metrics") as response:
        assert response.status == 200


async def test_pages_are_the_same_over_http_1_0(served: tuple[str, ClientSession]) -> None:
    """An old client gets the whole page too."""
    url, _ = served

    def old() -> bytes:
        connection = http.client.HTTPConnection(url.removeprefix("http://"))
        connection._http_vsn, connection._http_vsn_str = 10, "HTTP/1.0"  # type: ignore[attr-defined]
        connection.request("GET", "/metrics")
        body = connection.getresponse().read()
        connection.close()
        return body

    assert ("modelhost_many39", ()) in samples(await asyncio.to_thread(old))


async def test_a_client_that_is_gone_when_its_request_is_read_costs_no_page() -> None:
    """No pages are rendered for clients that have disconnected before their request is read."""
    collector = Fixed(family("modelhost_a"))
    async with _serving(_Service(Scrape({"a": collector}, 5.0))) as (url, client):
        host, _, port = url.removeprefix("http://").partition(":")
        for _ in range(20):  # the event loop does not turn meanwhile
            with socket.create_connection((host, int(port))) as gone:
                gone.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with client.get(f"{url}/metrics") as response:
            assert response.status == 200
    assert collector.runs == 1
