"""Misbehaving clients: memory does not grow, and other connections are not affected."""

from __future__ import annotations

import asyncio
import struct
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import psutil
import pytest

from modelhost_exporter.live.settings import LiveOptions
from modelhost_exporter.live.subscribers import Subscriber, chunked_event, event, websocket_frame
from tests.live.client import Connection, check_message
from tests.proxy.frames import BINARY, PING, PONG, TEXT, UPGRADE, frame
from tests.proxy.upstream import DEADLINE_SECONDS
from tests.support.programs import wait_until

if TYPE_CHECKING:
    from tests.conftest import StartExporter
    from tests.live.conftest import Serve

PROTOCOL_ERROR, TOO_BIG, POLICY = 1002, 1009, 1008


def _head(opcode: int, size: int, *, final: bool = True, mask: bool = True) -> bytes:
    """Return the head of a frame with a 64-bit length."""
    return bytes([final << 7 | opcode, mask << 7 | 127]) + struct.pack("!Q", size) + b"\0\0\0\0" * mask


@pytest.mark.parametrize(
    ("hostile", "code"),
    [
        (_head(BINARY, 1 << 62) + bytes(10_000), TOO_BIG),
        (frame(TEXT, bytes(5000), masked=True), TOO_BIG),
        ((b"\x01\x81" + b"\0\0\0\0a") + (b"\x00\x81" + b"\0\0\0\0a") * 5000, TOO_BIG),
        (b"\x01\x81\0\0\0\0a" * 2, PROTOCOL_ERROR),
        (b"\x80\x80\0\0\0\0", PROTOCOL_ERROR),
        (b"\xff" * 64, PROTOCOL_ERROR),
        (frame(TEXT, b"hello", masked=True) * 1000, POLICY),
        (frame(PING, b"x" * 100, masked=True) * 1000, POLICY),
        (frame(PONG, masked=True) * 1000, POLICY),
    ],
    ids=["huge", "large", "fragments", "unfinished", "orphan", "garbage", "texts", "pings", "pongs"],
)
async def test_hostile_frames_end_their_own_connection(serve: Serve, hostile: bytes, code: int) -> None:
    """The close code has the reason; another connection continues."""
    served = await serve()
    async with Connection(served.address) as viewer, Connection(served.address) as other:
        await (await other.watch()).message()
        await (await viewer.watch()).message()
        viewer.writer.write(hostile)
        assert await viewer.closed() == code
        for _ in range(3):
            check_message(await other.message())


async def test_an_incomplete_frame_blocks_nothing(serve: Serve) -> None:
    """After half a frame or message the client still receives messages, and can disconnect."""
    served = await serve()
    for half in (_head(TEXT, 1000) + b"a", b"\x01\x81\0\0\0\0a", b"\x81"):
        async with Connection(served.address) as viewer:
            await viewer.watch()
            viewer.writer.write(half)
            for _ in range(3):
                check_message(await viewer.message())


@pytest.mark.parametrize("kind", ["websocket", "events", "pinging"])
async def test_a_client_that_does_not_read_is_disconnected(serve: Serve, kind: str) -> None:
    """It misses messages and is disconnected, while another client receives all of them; its slot is free again."""
    served = await serve(interval=0.01, live=LiveOptions(history=False, max_viewers=2))
    for number in range(100):
        served.source.request("s", f"model-{number:03}")
    async with Connection(served.address, receive_buffer=4096) as stalled, Connection(served.address) as other:
        stalled.reader._transport.pause_reading()  # type: ignore[attr-defined] # the client stops reading altogether
        stalled.writer.write(
            _request("/api/live" if kind == "events" else "/metrics", kind != "events", served.address)
        )
        if kind == "pinging":
            stalled.writer.write(frame(PING, b"x" * 100, masked=True) * 50)
        await other.watch()
        times = [(await other.message())["timestamp"] for _ in range(20)]
        assert len(set(times)) == len(times)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not await _has_place(served.address):
                await other.message()


def _request(path: str, upgrade: bool, address: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", f"Host: {address}", *(UPGRADE if upgrade else ()), "", ""]
    return "\r\n".join(lines).encode()


async def _has_place(address: str) -> bool:
    async with Connection(address) as connection:
        return (await connection.ask("/api/live"))[0] == 200


async def test_a_thousand_connections(start_exporter: StartExporter) -> None:
    """200 of a thousand are accepted and the others receive a 503; afterwards all resources are released."""
    exporter = start_exporter("--web.max-connections=2000", "--web.max-connections-per-address=2000")
    process = psutil.Process(exporter.process.pid)
    async with Connection(exporter.address) as before:
        await (await before.watch()).message()
        files = process.num_fds()
        async with AsyncExitStack() as stack:
            connections = [await stack.enter_async_context(Connection(exporter.address)) for _ in range(1000)]
            answers = await asyncio.gather(*(connection.ask("/metrics", *UPGRADE) for connection in connections))
            assert sorted(status for status, _ in answers) == [101] * 199 + [503] * 801
            check_message(await before.message())
            assert exporter.page()
        await asyncio.to_thread(wait_until, lambda: process.num_fds() <= files, "connections are closed")
        check_message(await before.message())
    async with Connection(exporter.address) as after:
        check_message(await (await after.watch()).message())


async def test_a_stalled_client_of_the_real_exporter(start_exporter: StartExporter) -> None:
    """On the event loop in use, a client that never reads is disconnected."""
    exporter = start_exporter()
    async with Connection(exporter.address, receive_buffer=4096) as stalled, Connection(exporter.address) as other:
        stalled.reader._transport.pause_reading()  # type: ignore[attr-defined] # likewise
        # more than the connection holds, so that nothing leaves any more
        stalled.writer.write(_request("/metrics", True, exporter.address) + frame(PING, b"x" * 125, masked=True) * 90)
        await other.watch()
        for _ in range(2):
            check_message(await other.message())
        assert exporter.process.poll() is None


class _Transport(asyncio.Transport):
    """A transport whose buffer the test fills."""

    def __init__(self) -> None:
        super().__init__()
        self.buffered = 0
        self.aborted = False
        self.written: list[bytes] = []

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.aborted = True


def test_a_slow_subscriber_misses_messages_and_a_stalled_one_is_dropped() -> None:
    """At most one message is buffered; a subscriber that catches up continues; three misses in a row end it."""
    transport = _Transport()
    viewer = Subscriber(transport, websocket_frame)
    for buffered, frames in ((0, 1), (9, 1), (9, 1), (0, 2), (9, 2), (9, 2)):
        transport.buffered = buffered
        viewer.offer(b"frame")
        assert len(transport.written) == frames
    assert not viewer.gone.is_set()
    viewer.offer(b"frame")
    assert transport.aborted
    assert viewer.gone.is_set()
    viewer.offer(b"frame")
    assert len(transport.written) == 2


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 1 << 20])
async def test_frames_are_read_back_at_every_size(size: int) -> None:
    """With each of the three encodings of the length, and as events."""
    message = b"x" * size
    assert websocket_frame(message) == frame(TEXT, message)
    assert event(message) == b"event: message\ndata: " + message + b"\n\n"
    length, _, rest = chunked_event(message).partition(b"\r\n")
    assert rest == event(message) + b"\r\n"
    assert int(length, 16) == len(event(message))
