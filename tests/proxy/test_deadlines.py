"""Servers and clients that take too long, over real sockets: each deadline, and what does not count against one."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.config.duration import Seconds
from tests.proxy.client import BrokenReply, request
from tests.proxy.dialects import BLOCKING, EVENT_STREAM, STREAM, ask, ask_stream, token
from tests.proxy.upstream import (
    CHUNKED,
    DEADLINE_SECONDS,
    LAST_CHUNK,
    Call,
    always,
    chunk,
    head,
    never,
    reply,
    silent_port,
    then_silent,
)

if TYPE_CHECKING:
    from tests.proxy.conftest import StartProxied


async def test_a_server_that_does_not_accept_in_time(start_proxied: StartProxied) -> None:
    """A connection that is not made within connect_timeout is a 504 and a timeout."""
    with silent_port() as port:
        proxied = await start_proxied(always(reply()), port=port, connect_timeout=Seconds(0.1))
        async with proxied.client() as client:
            await client.send(request(body=ask()))
            assert (await client.reply()).status == "504 Gateway Timeout"
        assert await proxied.one() == {**BLOCKING, "outcome": "timeout", "code": "504"}


async def test_a_server_that_is_silent_before_the_head(start_proxied: StartProxied) -> None:
    """Nothing for idle_timeout: 504 in the dialect's shape, and the server's connection is closed."""
    proxied = await start_proxied(never, idle_timeout=Seconds(0.1))
    async with proxied.client() as client:
        await client.send(request(body=ask_stream()))
        got = await client.reply()
        assert got.status == "504 Gateway Timeout"
        assert json.loads(got.body)["error"]["type"] == "timeout"
    await proxied.upstream.idle()
    assert await proxied.one() == {**STREAM, "outcome": "timeout", "code": "504"}


@pytest.mark.parametrize("body", [b"x", b"x" * (1 << 20)], ids=["small", "large"])
async def test_a_server_that_is_silent_after_an_interim_reply(start_proxied: StartProxied, body: bytes) -> None:
    """An interim reply is no end of the waiting."""
    proxied = await start_proxied(then_silent(head(status="103 Early Hints")), idle_timeout=Seconds(0.2))
    async with proxied.client() as client:
        await client.send(request("/a", body))
        assert (await client.head()).code == 103
        assert (await client.reply()).code == 504
    await proxied.upstream.idle()
    assert (await proxied.one())["outcome"] == "timeout"


@pytest.mark.parametrize("answered", [False, True])
async def test_a_server_that_does_not_read(start_proxied: StartProxied, *, answered: bool) -> None:
    """A body that is not taken for idle_timeout is a time-out too, and the client is not to blame."""
    over = asyncio.Event()

    async def script(call: Call) -> None:
        if answered:
            await call.send(head(EVENT_STREAM, CHUNKED), chunk(token()))
        await asyncio.wait_for(over.wait(), DEADLINE_SECONDS)
        await call.peer_gone()
        call.close()

    proxied = await start_proxied(script, idle_timeout=Seconds(0.2))
    async with proxied.client() as client:
        client.writer.write(request(body=b"x" * (64 << 20)))
        if answered:
            with pytest.raises(BrokenReply):
                await client.reply()
        else:
            assert (await client.reply()).code == 504
    over.set()
    await proxied.upstream.idle()
    assert (await proxied.one())["outcome"] == "timeout"


async def test_a_server_that_falls_silent_during_the_stream(start_proxied: StartProxied) -> None:
    """Nothing for idle_timeout after the head: the reply breaks off, and that is a timeout."""
    proxied = await start_proxied(then_silent(head(EVENT_STREAM, CHUNKED), chunk(token())), idle_timeout=Seconds(0.1))
    async with proxied.client() as client:
        await client.send(request(body=ask_stream()))
        with pytest.raises(BrokenReply):
            await client.reply()
    await proxied.upstream.idle()
    assert await proxied.one() == {**STREAM, "model": "m", "outcome": "timeout", "code": "200"}


async def test_a_slow_client_is_no_silent_server(start_proxied: StartProxied) -> None:
    """While the client does not read, the server cannot send: that is not its silence."""
    size = 32 << 20

    proxied = await start_proxied(always(reply(bytes(size))), idle_timeout=Seconds(0.1))
    async with proxied.client() as client:
        await client.send(request("/a"))
        await client.head()
        await asyncio.sleep(0.5)
        await client.exactly(bytes(size))
    assert (await proxied.one())["outcome"] == "ok"


async def test_a_slow_client_of_a_stream_is_no_silent_server(start_proxied: StartProxied) -> None:
    """Likewise where the server sends many chunks and is held back between two of them."""
    piece, count = bytes(60_000), 300

    async def script(call: Call) -> None:
        await call.body()
        await call.send(head("Content-Type: text/plain", CHUNKED))
        for _ in range(count):
            await call.send(chunk(piece))
        await call.send(LAST_CHUNK)

    proxied = await start_proxied(script, idle_timeout=Seconds(0.2))
    async with proxied.client() as client:
        await client.send(request("/a"))
        await asyncio.sleep(0.9)
        assert len((await client.reply()).body) == count * len(piece)
    assert (await proxied.one())["outcome"] == "ok"
