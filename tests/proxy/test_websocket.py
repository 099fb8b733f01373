"""WebSockets are relayed message by message."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from modelhost_exporter.proxy.websocket import WebSocketRelay
from tests.proxy import frames
from tests.proxy.client import request
from tests.proxy.frames import BINARY, CLOSE, PING, PONG, TEXT, UPGRADE, frame, read_frame
from tests.proxy.upstream import DEADLINE_SECONDS, Call, always, reply

if TYPE_CHECKING:
    from tests.proxy.client import Client
    from tests.proxy.conftest import StartProxied


class Written:
    """A side of a WebSocket that keeps what is written to it."""

    is_writable = True

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> None:
        """Keep bytes."""
        self.data += data


RELAYED = {"model": "unknown", "operation": "other", "stream": "true", "outcome": "ok", "code": "101"}


async def _echo(call: Call) -> None:
    """Send every message back, and the close frame too, after which a server closes (RFC 6455, section 7.1.1)."""
    await call.send(frames.accept(call))
    while True:
        got = await read_frame(call.reader)
        await call.send(frame(*got))
        if got.opcode == CLOSE:
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
    assert call.values("Sec-WebSocket-Protocol") == ["a, b"]
    assert (call.values("Authorization"), call.values("Origin")) == (["Bearer k"], ["http://o"])
    assert call.values("Sec-WebSocket-Extensions") == []
    await proxied.one()


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("403 Forbidden", "client_error"),
        ("404 Not Found", "client_error"),
        ("500 Internal Server Error", "server_error"),
        ("302 Found", "ok"),
        ("200 OK", "ok"),
    ],
)
async def test_a_refused_handshake_is_forwarded(start_proxied: StartProxied, status: str, outcome: str) -> None:
    """A response other than 101 arrives as it was sent, a redirect too, which is the client's to follow or not."""
    proxied = await start_proxied(always(reply(b"no", "X-Why: a", "Location: http://other.test/", status=status)))
    async with proxied.client() as client:
        await client.send(request("/ws", None, *UPGRADE))
        got = await client.reply()
        assert (got.status, got.body, got.values("X-Why")) == (status, b"no", ["a"])
        assert got.values("Location") == ["http://other.test/"]
    assert len(proxied.upstream.calls) == 1
    assert await proxied.one() == {**RELAYED, "outcome": outcome, "code": status[:3]}


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


async def test_bytes_that_are_no_frames_are_the_servers(start_proxied: StartProxied) -> None:
    """What a client sends is not interpreted; a server that closes for it ends the client's connection."""
    received = b""

    async def script(call: Call) -> None:
        nonlocal received
        await call.send(frames.accept(call))
        while b"garbage" not in received:
            received += await call.some()
        call.close()

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await _open(client)
        await client.send(b"\xff\xff\xff\xff garbage")
        assert await client.closed() == b""
    assert received == b"\xff\xff\xff\xff garbage"
    await proxied.upstream.idle()
    assert await proxied.one() == RELAYED


async def test_frames_that_follow_the_handshake_at_once_arrive(start_proxied: StartProxied) -> None:
    """A client that does not wait for the 101 loses nothing, nor does a server whose first frame comes with it."""

    async def script(call: Call) -> None:
        await call.send(frames.accept(call), frame(TEXT, b"hi"))
        await call.send(frame(*await read_frame(call.reader)))
        call.close()

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(request("/ws", None, *UPGRADE), frame(TEXT, b"early", masked=True))
        assert (await client.head()).code == 101
        assert await _read(client) == (TEXT, b"hi")
        assert await _read(client) == (TEXT, b"early")
    assert await proxied.one() == RELAYED


async def test_compressed_frames_pass(start_proxied: StartProxied) -> None:
    """Extensions are negotiated between client and server, and what they make of a payload is not touched."""
    packed = bytes([0xC1, 5]) + b"\xf2\x48\xcd\xc9\x00"

    async def script(call: Call) -> None:
        extensions = call.values("Sec-WebSocket-Extensions")
        await call.send(frames.accept(call, f"Sec-WebSocket-Extensions: {extensions[0]}"), packed)
        call.close()

    proxied = await start_proxied(script)
    async with proxied.client() as client:
        await client.send(request("/ws", None, *UPGRADE, "Sec-WebSocket-Extensions: permessage-deflate"))
        assert (await client.head()).values("Sec-WebSocket-Extensions") == ["permessage-deflate"]
        await client.exactly(packed)
    assert await proxied.one() == RELAYED


LIMIT = 1000


@pytest.mark.parametrize(
    "sent",
    [
        [b"\x82\xff", (LIMIT + 1).to_bytes(8), b"mask"],
        [b"\x82\xfe", (LIMIT + 1).to_bytes(2), b"mask"],
        [b"\x02\xfe", LIMIT.to_bytes(2), b"mask", bytes(LIMIT), b"\x80\x81", b"mask", b"x"],
    ],
    ids=["64 bits", "16 bits", "two frames"],
)
@pytest.mark.parametrize("together", [True, False], ids=["at once", "byte by byte"])
async def test_a_message_beyond_the_limit_ends_the_websocket(
    start_proxied: StartProxied, sent: list[bytes], *, together: bool
) -> None:
    """Both sides are told (1009); what came before the frame that is too much was forwarded."""
    ended: list[frames.Frame] = []

    async def script(call: Call) -> None:
        await call.send(frames.accept(call))
        await call.reader.readuntil(b"before")
        if len(sent) > 3:
            await call.reader.readexactly(8 + LIMIT)
        ended.append(await read_frame(call.reader))
        call.close()

    proxied = await start_proxied(script, max_websocket_message_bytes=LIMIT)
    async with proxied.client() as client:
        await _open(client)
        data = frame(TEXT, b"before", masked=True) + b"".join(sent)
        for piece in [data] if together else [data[at : at + 1] for at in range(len(data))]:
            await client.send(piece)
        assert await _read(client) == (CLOSE, (1009).to_bytes(2))
        await client.closed()
    await proxied.upstream.idle()
    assert ended == [(CLOSE, (1009).to_bytes(2))]
    assert await proxied.one() == RELAYED


@pytest.mark.parametrize("size", [1, 2, 3, 5])
async def test_a_frame_header_may_be_split_anywhere(size: int) -> None:
    """Nothing of a frame that is too much is forwarded, not even the beginning of its header."""
    to_upstream, to_client = Written(), Written()
    ended: list[bool] = []
    relay = WebSocketRelay(cast("Any", to_client), cast("Any", to_upstream), LIMIT, lambda: ended.append(True))
    before = frame(BINARY, bytes(LIMIT), masked=True) + frame(TEXT, b"before", masked=True)
    data = before + b"\x82\xff" + (LIMIT + 1).to_bytes(8) + b"mask"
    for start in range(0, len(data), size):
        relay.on_client_data(data[start : start + size])
    assert bytes(to_upstream.data) == before + frames.close(1009, masked=True)
    assert bytes(to_client.data) == frames.close(1009)
    assert ended == [True]


async def test_messages_within_the_limit_pass(start_proxied: StartProxied) -> None:
    """Each message counts by itself, control frames between the frames of one too; pings pass."""
    proxied = await start_proxied(_echo, max_websocket_message_bytes=LIMIT)
    sent = [(BINARY, bytes(LIMIT)), (PING, b"p"), (BINARY, bytes(LIMIT)), (TEXT, b"last")]
    async with proxied.client() as client:
        await _open(client)
        await client.send(*(frame(*each, masked=True) for each in sent))
        assert [await _read(client) for _ in sent] == sent
    assert await proxied.one() == RELAYED


async def test_other_connections_have_their_turn_between_many_frames(start_proxied: StartProxied) -> None:
    """Frames of two bytes, whose headers are read for the limit, are not all read in one turn of the event loop."""
    data = frame(TEXT, b"", masked=True) * 50_000
    arrived = asyncio.Event()

    async def script(call: Call) -> None:
        await call.send(frames.accept(call))
        await call.reader.readexactly(len(data))
        arrived.set()
        await call.peer_gone()

    proxied = await start_proxied(script, max_websocket_message_bytes=LIMIT)
    async with proxied.client() as client:
        await _open(client)
        await client.send(data)
        turns = 0
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not arrived.is_set():
                turns += 1
                await asyncio.sleep(0)
        client.writer.close()
        await proxied.upstream.idle()
    assert await proxied.one() == RELAYED
    assert turns >= len(data) // (1 << 14)
