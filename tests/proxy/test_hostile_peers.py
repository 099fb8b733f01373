"""Clients and upstreams that misuse HTTP: what is buffered stays bounded, and no message is taken for another."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.proxy import frames
from tests.proxy.client import BrokenReply, request
from tests.proxy.frames import BINARY, UPGRADE, frame
from tests.proxy.upstream import CHUNKED, DEADLINE_SECONDS, always, chunk, head, never, reply, then_silent

if TYPE_CHECKING:
    from tests.proxy.conftest import Proxied, StartProxied
    from tests.proxy.upstream import Call

OTHER = {"model": "unknown", "operation": "other", "stream": "false", "outcome": "ok", "code": "200"}
SERVER_ERROR = {**OTHER, "outcome": "server_error", "code": "502"}
MEGABYTE = bytes(1 << 20)
GET = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED_POST = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize("field", ["Content-Length: 5", CHUNKED])
async def test_a_response_without_a_body_ends_with_its_head(
    start_proxied: StartProxied, status: str, field: str
) -> None:
    """A 204 or 304 has no body whatever its headers are (RFC 9112, section 6.3); its connection is used again."""
    proxied = await start_proxied(always(head(field, status=status)))
    async with proxied.client() as client:
        for _ in range(2):
            await client.send(request("/a"))
            assert (await client.reply()).status == status
    assert proxied.upstream.connections == (2 if field == CHUNKED else 1), "a streamed response proves nothing yet"
    assert await proxied.observed(2) == [{**OTHER, "code": status[:3]}] * 2


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(head("Content-Length: 5", status="103 Early Hints"), id="an interim response with a length"),
        pytest.param(head(CHUNKED, status="103 Early Hints"), id="an interim response in chunks"),
        pytest.param(head("Content-Length: 0", status="099 Low"), id="a status below 100"),
        pytest.param(b"HTTP/2.0 200 OK\r\nContent-Length: 19\r\n\r\n", id="another version"),
        pytest.param(head("Content-Length: 9223372036854775808"), id="a length of 2^63"),
        pytest.param(head(CHUNKED).replace(b"1.1", b"1.0", 1), id="chunks in HTTP/1.0"),
    ],
)
async def test_an_ambiguous_response_is_a_502(start_proxied: StartProxied, sent: bytes) -> None:
    """Clients may read such heads in different ways, so that nothing of the response is forwarded."""
    proxied = await start_proxied(then_silent(sent + reply(b"smuggled")))
    async with proxied.client() as client:
        await client.send(request("/a"))
        got = await client.reply()
        assert (got.code, b"smuggled" in got.body) == (502, False)
    assert await proxied.one() == SERVER_ERROR


@pytest.mark.parametrize("start", [b"0\r\nX: ", b"1;"], ids=["trailer", "chunk extension"])
async def test_an_endless_field_after_the_body_is_refused(start_proxied: StartProxied, start: bytes) -> None:
    """What follows a part of a chunked body is limited like a head: the parser collects it in memory."""
    proxied = await start_proxied(never)
    async with proxied.client() as client:
        await client.send(CHUNKED_POST, chunk(b"a"), start)
        await proxied.until("requests_in_flight", 1)
        await client.send(bytes(200_000).replace(b"\0", b"a"))
        assert (await client.reply()).code == 431
    assert await proxied.one() == {**OTHER, "outcome": "client_error", "code": "431"}


@pytest.mark.parametrize("start", [b"0\r\nX: ", b"1;"], ids=["trailer", "chunk extension"])
async def test_an_endless_field_after_a_response_cuts_it_off(start_proxied: StartProxied, start: bytes) -> None:
    """The upstream's trailers are limited likewise."""

    async def script(call: Call) -> None:
        await call.send(head(CHUNKED), chunk(b"a"), start)
        while True:
            await call.send(MEGABYTE.replace(b"\0", b"a"))

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(request("/a"))
        with pytest.raises(BrokenReply):
            await client.reply()
    assert await proxied.one() == {**OTHER, "outcome": "stream_error"}


async def test_many_upgrades_at_once_are_answered(start_proxied: StartProxied) -> None:
    """Each starts a new parser, one after another and not within each other: the depth of the stack is limited."""
    proxied = await start_proxied(always(reply(b"x")))
    count = 1000
    async with proxied.client() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n" * count)
        for _ in range(count):
            assert (await client.reply()).body == b"x"
    assert await proxied.observed(count) == [OTHER] * count


async def _calls_once_settled(proxied: Proxied) -> int:
    """Return how many requests reached the upstream, once no more do."""
    before = -1
    while before != len(proxied.upstream.calls):
        before = len(proxied.upstream.calls)
        await asyncio.sleep(0.2)
    return before


async def test_responses_that_nobody_reads_do_not_pile_up(start_proxied: StartProxied) -> None:
    """The next of many requests that were sent at once begins only when the client has read enough."""
    count, body = 1500, bytes(30_000)
    proxied = await start_proxied(always(reply(body)))
    async with proxied.client() as client:
        await client.send(GET * count)
        assert await _calls_once_settled(proxied) < 800, "each 30 kB: what the sockets and their buffers hold"
        for _ in range(count):
            assert (await client.reply()).body == body
    assert await proxied.observed(count) == [OTHER] * count


async def test_endless_requests_that_nobody_reads_end_the_connection(start_proxied: StartProxied) -> None:
    """Beyond 64 KiB of waiting requests the connection ends after the responses that are due."""
    proxied = await start_proxied(always(reply(bytes(30_000))))
    async with proxied.client() as client:
        await client.send(GET * 1500)
        count = await _calls_once_settled(proxied)
        await client.send(GET * 5000)
        async with asyncio.timeout(DEADLINE_SECONDS):
            rest = await client.reader.read(-1)
    answered = rest.count(b"HTTP/1.1 200 OK")
    assert count <= answered < 6500
    assert rest.endswith(bytes(30_000)), "the last response is complete"
    assert await proxied.observed(answered) == [OTHER] * answered


async def test_a_request_whose_body_does_not_fit_is_not_begun(start_proxied: StartProxied) -> None:
    """Of requests that were sent at once the one that is too large to wait is dropped with the connection."""
    go = asyncio.Event()

    async def script(call: Call) -> None:
        await go.wait()
        await call.send(reply(b"x"))

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(GET, b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\nabc")
        await proxied.until("requests_in_flight", 1)
        await client.send(bytes(199_997))
        while not go.is_set():
            await asyncio.sleep(0.05)
            go.set()
        assert (await client.reply()).body == b"x"
        assert await client.closed() == b""
    assert len(proxied.upstream.calls) == 1
    assert await proxied.one() == OTHER


async def test_frames_before_the_handshakes_answer_wait(start_proxied: StartProxied) -> None:
    """What a client sends ahead of the 101 stays unread beyond a limit, and arrives complete afterwards."""
    go, size = asyncio.Event(), 20 * len(MEGABYTE)

    async def script(call: Call) -> None:
        await go.wait()
        await call.send(frames.accept(call))
        await call.reader.readexactly(size)
        await call.send(b"all")
        call.close()

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(request("/ws", None, *UPGRADE))
        await proxied.until("requests_in_flight", 1)
        client.writer.write(bytes(size))
        await asyncio.sleep(0.3)
        assert client.writer.transport.get_write_buffer_size() > 0, "not all of it was read"
        go.set()
        await client.head()
        await client.exactly(b"all")


async def test_a_fast_websocket_is_read_as_fast_as_it_is_relayed(start_proxied: StartProxied) -> None:
    """With a message limit frames are searched a slice at a time; meanwhile no more is read from their sender."""
    count, sent = 64, 0

    async def script(call: Call) -> None:
        nonlocal sent
        await call.send(frames.accept(call))
        for _ in range(count):
            await call.send(frame(BINARY, MEGABYTE))
            sent += 1
        await call.peer_gone()
        call.close()

    proxied = await start_proxied(script, max_websocket_message_bytes=len(MEGABYTE))
    async with proxied.client() as client:
        await client.send(request("/ws", None, *UPGRADE))
        await client.head()
        stuck = -1
        while stuck != sent:
            stuck = sent
            await asyncio.sleep(0.2)
        assert sent < 24, "MB in the sockets of four ends and the proxy's buffers"
        for _ in range(count):
            await client.exactly(frame(BINARY, MEGABYTE))
