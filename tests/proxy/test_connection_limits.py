"""Timeouts and limits of clients' connections: what is closed or refused, and what is never cut."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.config.duration import Seconds
from modelhost_exporter.proxy.self_metrics import CLOSE_REASONS
from modelhost_exporter.proxy.settings import ProxySettings
from tests.proxy import frames
from tests.proxy.client import request
from tests.proxy.dialects import DONE, EVENT_STREAM, STREAM, ask, ask_stream, finish, token
from tests.proxy.frames import UPGRADE, frame, read_frame
from tests.proxy.upstream import CHUNKED, DEADLINE_SECONDS, LAST_CHUNK, Call, always, chunk, head, never, reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.proxy.client import Client
    from tests.proxy.conftest import Proxied, StartProxied

CLOSED = "proxy_connections_closed_total"
SHORT, MODERATE = Seconds(0.1), Seconds(0.3)
MEGABYTE = bytes(1 << 20)
OTHER = {"model": "unknown", "operation": "other", "stream": "false"}


def limits(**settings: object) -> Callable[[], ProxySettings]:
    """Return a source of settings that do not change."""
    fixed = ProxySettings(**settings)  # type: ignore[arg-type] # checked by each test
    return lambda: fixed


def closed(proxied: Proxied) -> dict[str, float]:
    """Return the closed connections by reason, those that are not 0."""
    return {dict(labels)["reason"]: value for labels, value in proxied.samples(CLOSED).items() if value}


async def let_pass(proxied: Proxied, times: int = 3) -> None:
    """Wait for several times the timeout for headers, which ends connections that send nothing."""
    for _ in range(times):
        async with proxied.client() as silent:
            assert await silent.closed() == b""


class Pausing:
    """A server that begins a stream, and ends it when it is told to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        """Respond to one request."""
        await call.body()
        await call.send(head(EVENT_STREAM, CHUNKED), chunk(token()))
        await asyncio.wait_for(self.go_on.wait(), DEADLINE_SECONDS)
        await call.send(chunk(finish()), chunk(DONE), LAST_CHUNK)


async def test_every_reason_is_counted_from_0(start_proxied: StartProxied) -> None:
    """A rate sees the first closed connection of each server that is listened for."""
    proxied = await start_proxied(never)
    assert proxied.samples(CLOSED) == {(("reason", reason),): 0 for reason in CLOSE_REASONS}


@pytest.mark.parametrize("sent", [b"", b"GET /a HTTP/1.1\r\nHost: a\r\nX-A: ", b"\r\n"], ids=["none", "some", "lines"])
async def test_headers_that_do_not_end(start_proxied: StartProxied, sent: bytes) -> None:
    """The timeout covers all headers, however slowly they come, and no request is recorded."""
    proxied = await start_proxied(never, limits=limits(header_timeout=SHORT))
    async with proxied.client() as client:
        await client.send(sent)
        waiting = asyncio.ensure_future(client.closed())
        while not waiting.done():
            client.writer.write(sent[-1:])
            await asyncio.sleep(0.005)
        assert waiting.result() == b""
    assert closed(proxied) == {"header_timeout": 1}
    assert proxied.total("requests_total") == 0


async def test_headers_of_a_second_request(start_proxied: StartProxied) -> None:
    """The timeout begins with their first byte."""
    proxied = await start_proxied(always(reply()), limits=limits(header_timeout=SHORT))
    async with proxied.client() as client:
        await client.send(request("/a"))
        await client.reply()
        await let_pass(proxied)
        await client.send(b"GET /b HTTP/1.1\r\n")
        assert await client.closed() == b""
    assert closed(proxied) == {"header_timeout": 4}
    assert await proxied.one() == {**OTHER, "outcome": "ok", "code": "200"}


@pytest.mark.parametrize("after", [b"", b"\r\n"], ids=["none", "an empty line"])
async def test_a_connection_without_a_further_request(start_proxied: StartProxied, after: bytes) -> None:
    """It is closed after the timeout for idle connections; old clients send an empty line after a request."""
    proxied = await start_proxied(always(reply()), limits=limits(idle_timeout=SHORT))
    async with proxied.client() as client:
        await client.send(request("/a"), after)
        await client.reply()
        assert await client.closed() == b""
    assert closed(proxied) == {"idle_timeout": 1}
    await proxied.one()


async def test_a_body_that_does_not_come(start_proxied: StartProxied) -> None:
    """408 in the dialect's format, whether or not the request is being sent on; the connection is closed."""
    proxied = await start_proxied(never, limits=limits(body_timeout=SHORT))
    for target in ("/v1/chat/completions", "/v1/embeddings"):
        async with proxied.client() as client:
            await client.send(request(target, ask())[:-1])
            got = await client.reply()
            assert got.code == 408
            assert "not received in time" in json.loads(got.body)["error"]["message"]
            assert got.values("Connection") == ["close"]
            assert await client.closed() == b""
    assert closed(proxied) == {"body_timeout": 2}
    for labels in await proxied.observed(2):
        assert (labels["outcome"], labels["code"]) == ("client_error", "408")
    await proxied.upstream.idle()


async def test_the_rest_of_a_body_that_is_not_wanted(start_proxied: StartProxied) -> None:
    """After an early response the same timeout applies to what is still to come."""

    async def script(call: Call) -> None:
        await call.send(reply(b"early"))
        call.close()

    proxied = await start_proxied(script, limits=limits(body_timeout=SHORT))
    async with proxied.client() as client:
        await client.send(request("/a", b"12345")[:-1])
        assert (await client.reply()).body == b"early"
        assert await client.closed() == b""
    assert closed(proxied) == {"body_timeout": 1}
    await proxied.one()


async def test_a_slow_body_passes(start_proxied: StartProxied) -> None:
    """The timeout for bodies restarts with each byte."""
    proxied = await start_proxied(always(reply(b"x")), limits=limits(header_timeout=SHORT, body_timeout=Seconds(1)))
    async with proxied.client() as client:
        sent = request("/a", bytes(12))
        await client.send(sent[:-12])
        for byte in sent[-12:]:
            await let_pass(proxied, 1)
            await client.send(bytes([byte]))
        assert (await client.reply()).body == b"x"
    assert closed(proxied) == {"header_timeout": 12}
    await proxied.one()


async def test_a_body_that_the_server_does_not_read(start_proxied: StartProxied) -> None:
    """No timeout applies to the client while the proxy does not read from it."""
    release = asyncio.Event()

    async def script(call: Call) -> None:
        await asyncio.wait_for(release.wait(), DEADLINE_SECONDS)
        await call.body()
        await call.send(reply(b"x"))

    proxied = await start_proxied(script, limits=limits(header_timeout=MODERATE, body_timeout=MODERATE))
    async with proxied.client() as client:
        total = 32 * len(MEGABYTE)
        await client.send(f"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: {total}\r\n\r\n".encode())
        for _ in range(32):
            client.writer.write(MEGABYTE)
        await let_pass(proxied)
        assert client.writer.transport.get_write_buffer_size() > 0
        release.set()
        assert (await client.reply()).body == b"x"
    assert closed(proxied) == {"header_timeout": 3}
    await proxied.one()


async def test_a_response_that_comes_while_the_body_is_sent(start_proxied: StartProxied) -> None:
    """A client that waits for parts of the response before it sends more is not cut."""
    go_on = asyncio.Event()

    async def script(call: Call) -> None:
        await call.send(head(CHUNKED))
        while not go_on.is_set():
            await call.send(chunk(b"."))
            await asyncio.sleep(0.01)
        await call.body()
        await call.send(LAST_CHUNK)

    proxied = await start_proxied(script, limits=limits(header_timeout=MODERATE, body_timeout=MODERATE))
    async with proxied.client() as client:
        await client.send(f"POST /a HTTP/1.1\r\nHost: a\r\n{CHUNKED}\r\n\r\n".encode(), chunk(b"x"))
        await let_pass(proxied)
        go_on.set()
        await client.send(LAST_CHUNK)
        assert set((await client.reply()).body) == {ord(".")}
    assert closed(proxied) == {"header_timeout": 3}
    await proxied.one()


async def _large(call: Call) -> None:
    """Send 64 MB, as fast as they are read."""
    await call.body()
    await call.send(head(f"Content-Length: {64 * len(MEGABYTE)}"))
    for _ in range(64):
        await call.send(MEGABYTE)


async def test_a_client_that_does_not_read(start_proxied: StartProxied) -> None:
    """It counts as a client that has left, and the server's work is ended."""
    proxied = await start_proxied(_large, limits=limits(send_timeout=SHORT))
    async with proxied.client() as client:
        await client.send(request("/a"))
        assert await proxied.one() == {**OTHER, "outcome": "client_disconnect", "code": "200"}
        await proxied.upstream.idle()
        assert closed(proxied) == {"send_timeout": 1}


async def test_a_client_that_reads_slowly(start_proxied: StartProxied) -> None:
    """The timeout for sending restarts with each byte that it reads."""
    proxied = await start_proxied(_large, limits=limits(header_timeout=SHORT, send_timeout=Seconds(2)))
    async with proxied.client() as client:
        await client.send(request("/a"))
        await client.head()
        for _ in range(32):
            await let_pass(proxied, 1)
            await client.exactly(MEGABYTE * 2)
    assert closed(proxied) == {"header_timeout": 32}
    assert await proxied.one() == {**OTHER, "outcome": "ok", "code": "200"}


async def test_a_websocket_that_is_not_read(start_proxied: StartProxied) -> None:
    """The timeout for sending applies to WebSockets."""

    async def script(call: Call) -> None:
        await call.send(frames.accept(call))
        while True:
            await call.send(frame(frames.BINARY, MEGABYTE))

    proxied = await start_proxied(script, limits=limits(send_timeout=SHORT))
    async with proxied.client() as client:
        await client.send(request("/ws", None, *UPGRADE))
        await proxied.until(CLOSED, 1)
        assert closed(proxied) == {"send_timeout": 1}
        await proxied.upstream.idle()
    await proxied.one()


ALL_SHORT = {"idle_timeout": SHORT, "body_timeout": SHORT, "send_timeout": SHORT, "header_timeout": MODERATE}


async def test_a_silent_websocket_goes_on(start_proxied: StartProxied) -> None:
    """No other timeout does."""

    async def script(call: Call) -> None:
        await call.send(frames.accept(call))
        await call.send(frame(*await read_frame(call.reader)))
        await call.peer_gone()
        call.close()

    proxied = await start_proxied(script, limits=limits(**ALL_SHORT))
    async with proxied.client() as client:
        await client.send(request("/ws", None, *UPGRADE))
        await client.head()
        await let_pass(proxied)
        await client.send(frame(frames.TEXT, b"still here", masked=True))
        assert await read_frame(client.reader) == (frames.TEXT, b"still here")
    await proxied.one()


async def test_a_stream_is_not_cut(start_proxied: StartProxied) -> None:
    """No timeout applies while a response is being waited for, however long that takes."""
    server = Pausing()
    proxied = await start_proxied(server, limits=limits(**ALL_SHORT))
    async with proxied.client() as client:
        await client.send(request(body=ask_stream()))
        await client.head()
        await let_pass(proxied, 5)
        server.go_on.set()
        await _rest(client)
        assert await client.closed() == b""
    assert closed(proxied) == {"header_timeout": 5, "idle_timeout": 1}
    assert await proxied.one() == {**STREAM, "model": "m", "outcome": "ok", "code": "200"}


async def _stream(client: Client) -> None:
    """Begin a stream and wait for its head."""
    await client.send(request(body=ask_stream()))
    assert (await client.head()).code == 200


async def _rest(client: Client) -> None:
    """Read the body of the stream to its end."""
    body = b""
    while data := await client.chunk():
        body += data
    assert body == token() + finish() + DONE


@pytest.mark.parametrize(
    ("setting", "reason"),
    [("max_connections", "connection_limit"), ("max_connections_per_address", "address_limit")],
)
async def test_a_new_connection_takes_the_place_of_an_idle_one(
    start_proxied: StartProxied, setting: str, reason: str
) -> None:
    """The one that has been idle longest; streams stay, and if there are only streams the new one gets a 503."""
    server = Pausing()
    proxied = await start_proxied(server, limits=limits(**{setting: 3}))
    async with AsyncExitStack() as stack:
        first, idle, last, *_ = [await stack.enter_async_context(proxied.client()) for _ in range(3)]
        await _stream(first)
        await _stream(last)
        second = await stack.enter_async_context(proxied.client())
        assert await idle.closed() == b""
        await _stream(second)
        assert closed(proxied) == {reason: 1}
        refused = await stack.enter_async_context(proxied.client())
        got = await refused.reply()
        assert (got.code, got.body) == (
            503,
            f"the proxy has no room for another connection (proxy.{setting})\r\n".encode(),
        )
        assert await refused.closed() == b""
        assert closed(proxied) == {reason: 2}
        server.go_on.set()
        for client in (first, second, last):
            await _rest(client)
    assert {labels["outcome"] for labels in await proxied.observed(3)} == {"ok"}


async def test_a_refused_client_keeps_no_place(start_proxied: StartProxied) -> None:
    """A connection that ends with an error and waits for its client to close gives way to a new one."""
    proxied = await start_proxied(always(reply(b"x")), limits=limits(max_connections=1))
    async with proxied.client() as refused, AsyncExitStack() as stack:
        await refused.send(b"malformed\r\n\r\n")
        assert (await refused.reply()).code == 400
        client = await stack.enter_async_context(proxied.client())
        await client.send(request("/a"))
        assert (await client.reply()).body == b"x"
    assert closed(proxied) == {"connection_limit": 1}
    await proxied.observed(2)


async def test_the_last_request_counts_not_the_age(start_proxied: StartProxied) -> None:
    """An older connection stays if its last request is more recent."""
    proxied = await start_proxied(always(reply(b"x")), limits=limits(max_connections=2))
    async with proxied.client() as older, proxied.client() as newer:
        for client in (newer, older):
            await client.send(request("/a"))
            await client.reply()
        async with proxied.client():
            assert await newer.closed() == b""
            await older.send(request("/a"))
            assert (await older.reply()).body == b"x"
    await proxied.observed(3)


async def test_large_headers_are_counted(start_proxied: StartProxied) -> None:
    """Both limits can be set, and changed by a reload: connections use the settings in force."""
    settings = [ProxySettings(max_header_bytes=2000, max_headers=5)]
    proxied = await start_proxied(always(reply(b"x")), limits=lambda: settings[0])
    large, many = request("/a", None, "X-A: " + "a" * 2000), request("/a", None, *(f"X-{n}: 1" for n in range(6)))
    for sent in (large, many, large[:-2], many[:-2]):
        async with proxied.client() as client:
            await client.send(sent)
            got = await client.reply()
            assert (got.code, b"proxy.max_header_bytes" in got.body) == (431, True)
    assert closed(proxied) == {"too_large_headers": 4}
    async with proxied.client() as client:
        settings[0] = replace(settings[0], max_header_bytes=4000, max_headers=10)
        for sent in (large, many):
            await client.send(sent)
            assert (await client.reply()).code == 200
    await proxied.observed(6)


async def test_five_hundred_slow_clients(start_proxied: StartProxied) -> None:
    """Requests beside clients that send headers byte by byte are served, and the slow ones are closed."""
    proxied = await start_proxied(always(reply(b"x")), limits=limits(header_timeout=Seconds(1)))
    async with AsyncExitStack() as stack:
        slow = [await stack.enter_async_context(proxied.client()) for _ in range(500)]
        over = asyncio.gather(*(client.closed() for client in slow))
        count = 0
        while not over.done():
            for client in slow:
                if not client.reader.at_eof():
                    client.writer.write(b"GET /a HTTP/1.1\r\nX: " if not count else b"x")
            async with proxied.client() as client:
                await client.send(request("/a"))
                assert (await client.reply()).body == b"x"
            count += 1
        assert set(over.result()) == {b""}
    assert closed(proxied) == {"header_timeout": 500}
    await proxied.observed(count)


async def test_all_connections_are_examined(start_proxied: StartProxied) -> None:
    """Also those behind more connections than are examined in one turn of the event loop."""
    proxied = await start_proxied(always(reply(b"x")), limits=limits(header_timeout=Seconds(2)))
    async with AsyncExitStack() as stack:
        silent = await stack.enter_async_context(proxied.client())
        for _ in range(200):
            client = await stack.enter_async_context(proxied.client())
            await client.send(request("/a"))
            await client.reply()
        assert await silent.closed() == b""
        assert closed(proxied) == {"header_timeout": 1}
    await proxied.observed(200)


async def test_a_flood_leaves_room(start_proxied: StartProxied) -> None:
    """Clients that only connect take each other's places: a stream goes on, and a request is served beside them."""
    server = Pausing()
    proxied = await start_proxied(server, limits=limits(max_connections_per_address=50))
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(proxied.client())
        await _stream(client)
        for _ in range(200):
            await stack.enter_async_context(proxied.client())
        await proxied.until(CLOSED, 151)
        assert proxied.proxy.connections.descriptors.connections <= 52
        server.go_on.set()
        await _rest(client)
    assert closed(proxied) == {"address_limit": 151}
    await proxied.one()
