"""Clients that leave: before, during and after what they asked for, over real sockets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.proxy.client import request
from tests.proxy.dialects import EVENT_STREAM, STREAM, ask_stream, token
from tests.proxy.upstream import CHUNKED, Call, chunk, head, never, then_silent

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
