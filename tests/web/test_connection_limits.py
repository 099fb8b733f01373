"""The limits on connections: which connection is closed to make room, and which is not."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from modelhost_exporter.config.address import Address
from modelhost_exporter.config.duration import Seconds
from modelhost_exporter.config.model import Web
from modelhost_exporter.process.connection_limits import client_of
from modelhost_exporter.process.descriptors import Descriptors
from modelhost_exporter.process.listening import listen
from modelhost_exporter.web.connection import LimitedConnection
from modelhost_exporter.web.connection_limits import LimitedRunner, WebConnectionLimits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DEADLINE_SECONDS = 10
LARGE_BYTES = 4 << 20


class Port:
    """A web port with limits, in this process."""

    def __init__(self, port: int, registry: CollectorRegistry, release: asyncio.Event) -> None:
        self.port = port
        self.release = release
        self._registry = registry
        self.writers: list[asyncio.StreamWriter] = []

    def closed(self, reason: str) -> float:
        """Return how many connections were closed for a reason."""
        return self._registry.get_sample_value("modelhost_web_connections_closed_total", {"reason": reason}) or 0.0

    async def connect(self, request: str | None = None) -> asyncio.StreamReader:
        """Connect and send a request for a path."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1024)
        self.writers.append(writer)
        if request is not None:
            writer.write(f"GET {request} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return reader

    async def until(self, reason: str, count: int) -> None:
        """Wait until a number of connections were closed."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while self.closed(reason) < count:  # noqa: ASYNC110 - a metric has no event
                await asyncio.sleep(0.001)


@asynccontextmanager
async def limited(settings: Web) -> AsyncIterator[Port]:
    """Serve /held, which responds once it is released, /large, and /small."""
    registry = CollectorRegistry()
    release = asyncio.Event()

    async def held(_request: web.Request) -> web.Response:
        await release.wait()
        return web.Response(text="held")

    async def large(_request: web.Request) -> web.Response:
        return web.Response(body=bytes(LARGE_BYTES))

    async def small(_request: web.Request) -> web.Response:
        return web.Response(text="small")

    app = web.Application()
    app.add_routes([web.get("/held", held), web.get("/large", large), web.get("/small", small)])
    descriptors = Descriptors()
    runner = LimitedRunner(app, WebConnectionLimits(lambda: settings, registry, descriptors), 0.1)
    await runner.setup()
    await listen(runner, Address("127.0.0.1", 0))
    port = Port(runner.addresses[0][1], registry, release)
    try:
        yield port
    finally:
        for writer in port.writers:
            writer.close()
        await runner.cleanup()
        async with asyncio.timeout(DEADLINE_SECONDS):
            while descriptors.connections:  # noqa: ASYNC110 - a counter has no event
                await asyncio.sleep(0)


async def first_line(reader: asyncio.StreamReader) -> bytes:
    """Return the status line; empty if the connection was closed."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        try:
            return await reader.readline()
        except ConnectionError:
            return b""


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (Web(max_connections=3), "connection_limit"),
        (Web(max_connections_per_address=3), "address_limit"),
    ],
)
async def test_a_new_connection_takes_the_place_of_one_that_waits(settings: Web, reason: str) -> None:
    """The connection that has been idle longest is closed; if all are being served, the new one is refused."""
    async with limited(settings) as port:
        served = await port.connect("/held")
        oldest, second = await port.connect(), await port.connect()
        assert await first_line(await port.connect("/small")) == b"HTTP/1.1 200 OK\r\n"
        assert await first_line(oldest) == b""
        assert port.closed(reason) == 1
        another, last = await port.connect("/held"), await port.connect("/held")
        assert await first_line(second) == b""
        await port.until(reason, 3)
        refused = await port.connect("/small")
        assert await first_line(refused) in (b"HTTP/1.1 503 Service Unavailable\r\n", b"")
        assert port.closed(reason) == 4
        port.release.set()
        assert [await first_line(reader) for reader in (served, another, last)] == [b"HTTP/1.1 200 OK\r\n"] * 3


async def test_what_is_not_read_is_bounded() -> None:
    """Beyond 32 MiB of unsent data the connection that stalled first is closed."""
    async with limited(Web()) as port:
        readers = [await port.connect("/large") for _ in range(12)]
        await port.until("unsent_limit", 1)
        assert len(readers) == 12
        assert await first_line(await port.connect("/small")) == b"HTTP/1.1 200 OK\r\n"
        assert port.closed("send_timeout") == 0


async def test_a_slow_reader_that_goes_on_reading_is_served() -> None:
    """The timeout for sending restarts with each byte that the client reads."""
    async with limited(Web(send_timeout=Seconds(0.5))) as port:
        reader = await port.connect("/large")
        received = 0
        async with asyncio.timeout(DEADLINE_SECONDS):
            while received < LARGE_BYTES:
                received += len(await reader.read(1 << 18))
                await asyncio.sleep(0.001)
        assert port.closed("send_timeout") == 0


async def test_a_request_that_takes_long_is_not_closed() -> None:
    """No timeout applies while a request is being served, however long that takes."""
    shortest = Seconds(0.05)
    async with limited(Web(header_timeout=shortest, idle_timeout=shortest, body_timeout=shortest)) as port:
        reader = await port.connect("/held")
        await port.connect()
        await port.connect()
        await port.until("header_timeout", 2)
        port.release.set()
        assert await first_line(reader) == b"HTTP/1.1 200 OK\r\n"


async def test_what_is_not_http_is_answered_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """They get an error status, and no traceback is logged."""
    async with limited(Web()) as port:
        reader = await port.connect()
        port.writers[-1].write(b"\x16\x03\x01 what\r\n\r\n")
        assert await first_line(reader) == b"HTTP/1.0 400 Bad Request\r\n"
    assert not caplog.records


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        (("192.0.2.1", 4711), "192.0.2.1"),
        (("::ffff:192.0.2.1", 4711, 0, 0), "192.0.2.1"),
        (("2001:db8:1:2:3::4", 4711, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 4711, 0, 2), "fe80::/64"),
        ("", ""),
        (None, ""),
    ],
)
def test_whom_a_connection_counts_for(peer: object, client: str) -> None:
    """An IPv6 network of 64 bits counts as one client, since one customer has that many addresses."""

    class Transport(asyncio.BaseTransport):
        def get_extra_info(self, _name: str, _default: object = None) -> object:
            return peer

    assert client_of(Transport()) == client


@pytest.mark.parametrize(("messages", "upgraded"), [(1, False), (0, True)], ids=["request", "refused upgrade"])
async def test_other_connections_have_their_turn_between_pipelined_requests(messages: int, *, upgraded: bool) -> None:
    """Other connections are served between pipelined requests, whether or not a handler awaits something."""
    connection = LimitedConnection.__new__(LimitedConnection)
    waiting: Any = object()  # only their number counts
    connection._messages = deque([waiting] * messages)
    connection._upgraded = upgraded
    sending = connection.finish_response(None, web.StreamResponse(), None)  # type: ignore[arg-type] # not needed
    assert sending.send(None) is None  # a bare yield, as of asyncio.sleep(0)
    sending.close()
