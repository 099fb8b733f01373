"""WebSockets are relayed message by message."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.proxy.websocket import MAX_MESSAGE_BYTES
from tests.proxy import frames
from tests.proxy.client import request
from tests.proxy.frames import BINARY, CLOSE, PING, PONG, TEXT, UPGRADE, frame, read_frame
from tests.proxy.upstream import DEADLINE_SECONDS, Call, always, reply

if TYPE_CHECKING:
    from tests.proxy.client import Client
    from tests.proxy.conftest import StartProxied

RELAYED = {"model": "unknown", "operation": "other", "stream": "true", "outcome": "ok", "code": "101"}


async def _echo(call: Call) -> None:
    """Send every message back, and the close frame too."""
    await call.send(frames.accept(call))
    while True:
        got = await read_frame(call.reader)
        await call.send(frame(*got))
        if got.opcode == CLOSE:
            await call.peer_gone()
            return call.close()


async def _open(client: Client, *fields: str) -> None:
    await client.send(request("/ws?a=%2F", None, *UPGRADE, *fields))
    assert (await client.head()).status == "101 Switching Protocols"


async def _read(client: Client) -> frames.Frame:
    return await asyncio.wait_for(read_frame(client.reader), DEADLINE_SECONDS)


async def test_messages_go_both_ways(start_proxied: StartProxied) -> None:
    """Text, binary, empty and large messages, pings and pongs come back as they were sent, in order."""
    proxied = await start_proxied(_echo)
    sent = [
        (TEXT, "ä€".encode()),
        (BINARY, bytes(range(256))),
        (TEXT, b""),
        (PING, b"p"),
        (PONG, b"q"),
        (BINARY, b"x" * 300_000),
        (TEXT, b"last"),
    ]
    async with proxied.client() as client:
        await _open(client)
        assert proxied.in_flight() == {("unknown", "streaming"): 1}
        await client.send(*(frame(*each, masked=True) for each in sent))
        assert [await _read(client) for _ in sent] == sent
        await client.send(frames.close(1000, masked=True))
        assert await _read(client) == (CLOSE, b"\x03\xe8")
        assert await client.closed() == b""
    assert proxied.upstream.calls[0].target == "/ws?a=%2F"
    assert await proxied.one() == RELAYED


@pytest.mark.parametrize(("code", "reason"), [(1000, b""), (1001, b"bye"), (1011, b"oops"), (4001, "größer".encode())])
async def test_a_clients_close_arrives_and_is_answered(start_proxied: StartProxied, code: int, reason: bytes) -> None:
    """The server sees the client's close code and reason, and the client the same code in return."""
    proxied = await start_proxied(_echo)
    async with proxied.client() as client:
        await _open(client)
        await client.send(frames.close(code, reason, masked=True))
        got = await _read(client)
        assert (got.opcode, got.payload[:2]) == (CLOSE, code.to_bytes(2))
        assert await client.closed() == b""
    await proxied.upstream.idle()
    assert await proxied.one() == RELAYED


@pytest.mark.parametrize(("code", "reason"), [(1000, b""), (1012, b"restart"), (4999, b"mine")])
async def test_a_servers_close_arrives(start_proxied: StartProxied, code: int, reason: bytes) -> None:
    """The client sees the server's close code and reason, and the server the same code in return."""
    answered: list[frames.Frame] = []

    async def script(call: Call) -> None:
        await call.send(frames.accept(call), frame(TEXT, b"hi"), frames.close(code, reason))
        answered.append(await read_frame(call.reader))
        call.close()

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await _open(client)
        assert await _read(client) == (TEXT, b"hi")
        assert await _read(client) == (CLOSE, code.to_bytes(2) + reason)
        await client.send(frames.close(code, masked=True))
        assert await client.closed() == b""
    await proxied.upstream.idle()
    assert [got.payload[:2] for got in answered] == [code.to_bytes(2)]
    assert await proxied.one() == RELAYED


async def test_a_client_that_vanishes_frees_the_server(start_proxied: StartProxied) -> None:
    """When the client's connection breaks, the server's ends at once."""

    async def script(call: Call) -> None:
        await call.send(frames.accept(call))
        await call.peer_gone()
        call.close()

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await _open(client)
        client.reset()
    async with asyncio.timeout(2):
        await proxied.upstream.idle()
    assert await proxied.one() == RELAYED


async def test_a_server_that_vanishes_ends_the_client(start_proxied: StartProxied) -> None:
    """When the server's connection breaks, the client is told to go (1001) and its connection ends."""

    async def script(call: Call) -> None:
        await call.send(frames.accept(call), frame(TEXT, b"hi"))
        call.reset()

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await _open(client)
        assert (await _read(client)).opcode in (TEXT, CLOSE)
    assert await proxied.one() == RELAYED


async def test_the_protocol_is_the_servers_choice(start_proxied: StartProxied) -> None:
    """Subprotocols are offered as the client did, the server's choice is passed on, and so are other fields."""

    async def script(call: Call) -> None:
        await call.send(frames.accept(call, "Sec-WebSocket-Protocol: b"))
        await call.peer_gone()
        call.close()

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(
            request(
                "/ws", None, *UPGRADE, "Sec-WebSocket-Protocol: a, b", "Authorization: Bearer k", "Origin: http://o"
            )
        )
        got = await client.head()
        assert got.values("Sec-WebSocket-Protocol") == ["b"]
    (call,) = proxied.upstream.calls
    assert call.values("Sec-WebSocket-Protocol") == ["a,b"]
    assert (call.values("Authorization"), call.values("Origin")) == (["Bearer k"], ["http://o"])
    assert call.values("Sec-WebSocket-Extensions") == []
    await proxied.one()


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("403 Forbidden", "client_error"),
        ("404 Not Found", "client_error"),
        ("500 Internal Server Error", "server_error"),
        ("200 OK", "server_error"),
    ],
)
async def test_a_refused_handshake_is_quoted(start_proxied: StartProxied, status: str, outcome: str) -> None:
    """A server that does not switch is quoted by its status; a plain 200 is no WebSocket and a 502."""
    proxied = await start_proxied(always(reply(b"no", status=status)))
    async with proxied.client() as client:
        await client.send(request("/ws", None, *UPGRADE))
        code = 502 if status == "200 OK" else int(status[:3])
        assert (await client.reply()).code == code
    assert await proxied.one() == {**RELAYED, "outcome": outcome, "code": str(code)}


async def test_an_unreachable_server_is_a_bad_gateway(start_proxied: StartProxied, dead_port: int) -> None:
    """Nobody listens: 502."""
    proxied = await start_proxied(_echo, port=dead_port)
    async with proxied.client() as client:
        await client.send(request("/ws", None, *UPGRADE))
        assert (await client.reply()).code == 502
    assert await proxied.one() == {**RELAYED, "outcome": "upstream_unreachable", "code": "502"}


@pytest.mark.parametrize(
    "fields",
    [
        ("Connection: Upgrade", "Upgrade: websocket"),
        ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
        ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: short", "Sec-WebSocket-Version: 13"),
        (*UPGRADE[:3], "Sec-WebSocket-Version: 12"),
    ],
    ids=["nothing", "no key", "a short key", "another version"],
)
async def test_a_bad_handshake_is_refused(start_proxied: StartProxied, fields: tuple[str, ...]) -> None:
    """A handshake without a proper key or version is answered 400, and the server does not see it."""
    proxied = await start_proxied(_echo)
    async with proxied.client() as client:
        await client.send(request("/ws", None, *fields))
        assert (await client.reply()).code == 400
    assert proxied.upstream.calls == []
    labels = await proxied.one()
    assert (labels["outcome"], labels["code"]) == ("client_error", "400")


async def test_broken_frames_end_the_socket(start_proxied: StartProxied) -> None:
    """A client that breaks the protocol loses its connection, and the server is told."""
    proxied = await start_proxied(_echo)
    async with proxied.client() as client:
        await _open(client)
        await client.send(b"\xff\xff\xff\xff garbage")
        await client.closed()
    await proxied.upstream.idle()
    assert await proxied.one() == RELAYED


async def test_a_very_large_message_ends_the_websocket(start_proxied: StartProxied) -> None:
    """A message is held until it is whole: one that is longer than any use of it is refused at its header."""
    proxied = await start_proxied(_echo)
    async with proxied.client() as client:
        await _open(client)
        await client.send(b"\x82\xff", (MAX_MESSAGE_BYTES + 1).to_bytes(8), b"mask")
        assert await _read(client) == (CLOSE, (1009).to_bytes(2))
        client.writer.close()
    await proxied.upstream.idle()
    assert await proxied.one() == RELAYED


async def test_other_connections_have_their_turn_between_messages(start_proxied: StartProxied) -> None:
    """Messages that came at once are not passed on at once: the event loop turns in between."""
    count = 5000
    arrived = asyncio.Event()

    async def script(call: Call) -> None:
        await call.send(frames.accept(call))
        for _ in range(count):
            await read_frame(call.reader)
        arrived.set()
        await call.peer_gone()

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await _open(client)
        await client.send(frame(TEXT, b"", masked=True) * count)
        turns = 0
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not arrived.is_set():
                turns += 1
                await asyncio.sleep(0)
        client.writer.close()
        await proxied.upstream.idle()
    assert await proxied.one() == RELAYED
    assert turns > count
