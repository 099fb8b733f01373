"""Clients that leave: before, during and after what they asked for, over real sockets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.proxy.client import request
from tests.proxy.dialects import EVENT_STREAM, STREAM, ask_stream, token
from tests.proxy.upstream import CHUNKED, DEADLINE_SECONDS, Call, chunk, head, never, silent_port, then_silent

if TYPE_CHECKING:
    from tests.proxy.conftest import StartProxied


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_client_that_leaves_before_the_head(start_proxied: StartProxied, how: str) -> None:
    """The server's connection is closed at once; the outcome is client_disconnect and no reply was sent."""
    proxied = await start_proxied(never)
    async with proxied.client() as client:
        await client.send(request(body=ask_stream()))
        await proxied.until("requests_in_flight", 1)
        if how == "reset":
            client.reset()
    await proxied.upstream.idle()
    assert await proxied.one() == {**STREAM, "outcome": "client_disconnect", "code": "none"}


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_client_that_leaves_during_the_stream(start_proxied: StartProxied, how: str) -> None:
    """The server's connection is closed at once; tokens so far stay counted, times are not."""
    proxied = await start_proxied(then_silent(head(EVENT_STREAM, CHUNKED), chunk(token("a"))))
    async with proxied.client() as client:
        await client.send(request(body=ask_stream()))
        await client.head()
        await client.chunk()
        if how == "reset":
            client.reset()
    await proxied.upstream.idle()
    assert await proxied.one() == {**STREAM, "model": "m", "outcome": "client_disconnect", "code": "200"}
    assert proxied.total("stream_chunks_total") == 1
    assert proxied.total("request_time_to_first_token_seconds_count") == 0
    assert proxied.total("request_duration_seconds_count") == 1


@pytest.mark.parametrize("kind", ["auto", "vllm"])
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_client_that_leaves_while_it_sends(start_proxied: StartProxied, how: str, kind: str) -> None:
    """A request that broke off reaches the server broken, if at all; client_disconnect, and no server is blamed."""
    proxied = await start_proxied(never, kind=kind)
    async with proxied.client() as client:
        await client.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
        await proxied.until("requests_in_flight", 1)
        if how == "reset":
            client.reset()
    await proxied.until("requests_total", 1)
    await proxied.upstream.idle()
    assert await proxied.one() == {
        "model": "unknown",
        "operation": "chat",
        "stream": "false",
        "outcome": "client_disconnect",
        "code": "none",
    }


async def test_a_client_that_leaves_during_a_slow_reply(start_proxied: StartProxied) -> None:
    """A client that does not read and then goes away frees the server, too."""

    async def script(call: Call) -> None:
        await call.send(head(CHUNKED))
        while True:
            await call.send(chunk(bytes(1 << 20)))

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(request("/a"))
        await client.head()
        await asyncio.sleep(0.1)
        client.reset()
    await proxied.upstream.idle()
    assert (await proxied.one())["outcome"] == "client_disconnect"


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
async def test_a_client_that_leaves_while_it_is_not_read(start_proxied: StartProxied, how: str) -> None:
    """A server that reads nothing is freed when the client of the request leaves, although the proxy reads nothing."""
    gone = asyncio.Event()

    async def script(call: Call) -> None:
        call.pause_reading()
        await gone.wait()
        call.resume_reading()
        await call.peer_gone()
        call.close()

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
        await proxied.until("requests_in_flight", 1)
        (connection,) = proxied.proxy._listeners[0]._open
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not connection.is_paused:
                await client.send(bytes(1 << 14))
                for _ in range(5):  # the proxy reads it: nothing may wait in front of the end
                    await asyncio.sleep(0)
        await client.send(b"more")  # lies before the end
        if how == "half-close":
            client.writer.write_eof()
        elif how == "reset":
            client.reset()
        else:
            client.writer.transport.abort()
        await proxied.until("requests_total", 1)
        gone.set()
    await proxied.upstream.idle()
    assert (await proxied.one())["outcome"] == "client_disconnect"
    assert connection.is_paused, "else its end was read"


async def test_a_client_that_leaves_while_a_connection_is_made(start_proxied: StartProxied) -> None:
    """More of the body than may wait is not read meanwhile; the client's end is noticed all the same."""
    with silent_port() as port:
        proxied = await start_proxied(never, port=port)
        async with proxied.client() as client:
            await client.send(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n", bytes(1 << 17))
            await proxied.until("requests_in_flight", 1)
            (connection,) = proxied.proxy._listeners[0]._open
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not connection.is_paused:  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0)
        assert (await proxied.one())["outcome"] == "client_disconnect"
