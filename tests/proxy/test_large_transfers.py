"""Bodies of 100 MB with slow peers, and peers that leave anywhere: memory stays bounded, each request counts once."""

from __future__ import annotations

import asyncio
import contextlib
import random
import resource
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.faults.crowd import many_descriptors
from tests.proxy.client import Client, request
from tests.proxy.test_soak import open_descriptors, returns_to
from tests.proxy.upstream import CHUNKED, DEADLINE_SECONDS, Call, chunk, head, reply, then_silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.proxy.conftest import Proxied, StartProxied

MEGABYTE = bytes(1 << 20)
SIZE = 100 * len(MEGABYTE)
MAX_BUFFERED = 1 << 19
"""Two reads of an event loop: one is forwarded, and the next may have begun before reading stops."""
MAX_GROWTH = 30_000
"""Kilobytes, of all four ends, which are in this process."""
UPLOAD = f"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n".encode()


class Buffered:
    """The largest number of bytes that a proxy held for the slower side."""

    def __init__(self, proxied: Proxied) -> None:
        self._proxied = proxied
        self.most = 0

    def measure(self) -> None:
        """Measure what waits to be sent now."""
        for connection, exchange in self._proxied.proxy._listeners[0]._exchanges.items():
            waiting = exchange._unsent_bytes
            if exchange._upstream is not None:
                waiting += exchange._upstream.unsent_bytes
            if connection._transport is not None:
                waiting += connection._transport.get_write_buffer_size()
            self.most = max(self.most, waiting)


async def _send_all(client: Client) -> None:
    for _ in range(SIZE // len(MEGABYTE)):
        client.writer.write(MEGABYTE)
        await client.writer.drain()


async def test_a_slow_server_receives_all(start_proxied: StartProxied) -> None:
    """A request of 100 MB to a server that reads in bursts: what the proxy holds is bounded."""
    received = 0

    async def script(call: Call) -> None:
        nonlocal received
        burst = 0
        while received < SIZE:
            size = len(await call.some())
            received, burst = received + size, burst + size
            buffered.measure()
            if burst > len(MEGABYTE):
                burst = 0
                await asyncio.sleep(0.002)
        await call.send(reply(b"x"))
        call.close()

    proxied = await start_proxied(script)
    buffered = Buffered(proxied)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with proxied.client() as client:
        await client.send(UPLOAD)
        await _send_all(client)
        assert (await client.reply()).body == b"x"
    assert received == SIZE
    assert buffered.most <= MAX_BUFFERED  # 0 on a machine that is slower than the server
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MAX_GROWTH
    assert (await proxied.one())["outcome"] == "ok"


@pytest.mark.parametrize("framing", [f"Content-Length: {SIZE}", CHUNKED], ids=["length", "chunks"])
async def test_a_slow_client_receives_all(start_proxied: StartProxied, framing: str) -> None:
    """A response of 100 MB to a client that reads in bursts."""

    async def script(call: Call) -> None:
        await call.body()
        await call.send(head(framing))
        data = chunk(MEGABYTE) if framing == CHUNKED else MEGABYTE
        for _ in range(SIZE // len(MEGABYTE)):
            await call.send(data)
        if framing == CHUNKED:
            await call.send(b"0\r\n\r\n")

    proxied = await start_proxied(script)
    buffered = Buffered(proxied)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with proxied.client() as client:
        await client.send(request("/a"))
        await client.head()
        received = turns = 0
        while received < SIZE:
            if framing == CHUNKED:
                received += len(await client.chunk())
            else:
                received += len(await client.reader.read(1 << 16))
            buffered.measure()
            turns += 1
            if not turns % 16:
                await asyncio.sleep(0.001)
    assert received == SIZE
    assert 0 < buffered.most <= MAX_BUFFERED
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MAX_GROWTH
    assert (await proxied.one())["outcome"] == "ok"


class Leaving:
    """Transfers of 100 MB that one side ends at a random place."""

    def __init__(self, proxied: Proxied, seed: int) -> None:
        self._proxied = proxied
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._end: int | None = None

    async def answer(self, call: Call) -> None:
        """Read the request and send as much, or leave when the end is reached."""
        left = SIZE if self._end is None else self._end
        if call.line.startswith("POST"):
            while left > 0 and (data := await call.some()):
                left -= len(data)
        else:
            await call.send(head(f"Content-Length: {SIZE}"))
            while left > 0:
                await call.send(MEGABYTE[: min(left, len(MEGABYTE))])
                left -= len(MEGABYTE)
        call.reset() if self._end is not None and self._random.random() < 0.5 else call.close()

    async def run(self, side: str, direction: str) -> None:
        """Transfer a body until one side leaves; return once it has and its request was counted."""
        end = self._random.randrange(SIZE - 20 * len(MEGABYTE))  # more than what lies in all the sockets
        self._end = end if side == "server" else None
        async with self._proxied.client() as client:
            with contextlib.suppress(ConnectionError):
                if direction == "request":
                    await client.send(UPLOAD)
                    await self._upload(client, end if side == "client" else SIZE)
                else:
                    await client.send(request("/a"))
                    await self._download(client, end if side == "client" else SIZE)
            client.reset()

    async def _upload(self, client: Client, left: int) -> None:
        while left > 0:
            await client.send(MEGABYTE[: min(left, len(MEGABYTE))])
            left -= len(MEGABYTE)

    async def _download(self, client: Client, left: int) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while left > 0 and (data := await client.reader.read(1 << 18)):
                left -= len(data)


async def test_transfers_that_end_anywhere(start_proxied: StartProxied) -> None:
    """Whichever side leaves, in whichever direction: one observation each, nothing is left, memory is bounded."""

    async def script(call: Call) -> None:
        await leaving.answer(call)

    proxied = await start_proxied(script)
    leaving = Leaving(proxied, seed=1)
    await leaving.run(
        "client", "request"
    )  # whatever is opened once, such as the epoll of connections that are not read
    await proxied.observed(1)
    before, memory = open_descriptors(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes: Counter[str] = Counter()
    kinds = [(side, direction) for side in ("client", "server") for direction in ("request", "response")]
    for number, kind in enumerate(kinds * 2, 2):
        await leaving.run(*kind)
        outcomes = Counter(labels["outcome"] for labels in await proxied.observed(number))
    assert outcomes["client_disconnect"] == 1 + 4
    assert outcomes["stream_error"] == 2, "responses that the server broke off"
    assert outcomes["upstream_unreachable"] == 2, "requests that the server did not read to the end"
    await returns_to(before)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < MAX_GROWTH


CLIENTS = 1000


@pytest.fixture
def room() -> Iterator[None]:
    """Raise the limit on descriptors to what both sides of all connections need."""
    with many_descriptors(4 * CLIENTS):
        yield


@pytest.mark.usefixtures("room")
@pytest.mark.parametrize("began", [False, True], ids=["before the response", "in the response"])
async def test_a_thousand_clients_leave_at_once(start_proxied: StartProxied, *, began: bool) -> None:
    """Each is counted once; no request stays in flight, and all descriptors come back."""
    answer = (head(CHUNKED), chunk(b"x")) if began else ()
    proxied = await start_proxied(then_silent(*answer))
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(proxied.client())
        await first.send(request("/a"))
        await proxied.until("requests_in_flight", 1)
    await proxied.observed(1)
    await proxied.upstream.idle()
    before = open_descriptors()
    clients = [Client(proxied.port) for _ in range(CLIENTS)]
    for client in clients:
        await client.__aenter__()
        await client.send(request("/a"))
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(proxied.upstream.calls) <= CLIENTS:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.001)
    if began:
        for client in clients:
            await client.head()
    for number, client in enumerate(clients):
        client.reset() if number % 2 else client.writer.transport.abort()
    outcomes = Counter(labels["outcome"] for labels in await proxied.observed(1 + CLIENTS))
    assert outcomes == {"client_disconnect": 1 + CLIENTS}
    await proxied.upstream.idle()
    await returns_to(before)
