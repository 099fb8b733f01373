"""Hundreds of streams whose clients and server leave at any time: each is counted once, and nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tests.proxy.client import BrokenReply, request
from tests.proxy.dialects import DONE, EVENT_STREAM, ask_stream, finish, token, usage
from tests.proxy.upstream import CHUNKED, DEADLINE_SECONDS, LAST_CHUNK, Call, chunk, head

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.proxy.conftest import Proxied, StartProxied

STREAMS, CLIENTS = 300, 20
KILLS = {100: 110, 200: 210}
"""The server is killed when so many streams have begun, and is back when so many have."""
TOKENS = 40
LEAVING = ("at once", "after the head", "in the stream", "with a reset")


async def _stream(call: Call) -> None:
    """Send a stream in small pieces, so that those of many requests mingle."""
    await call.body()
    await call.send(head(EVENT_STREAM, CHUNKED))
    for number in range(TOKENS):
        await call.send(chunk(token(str(number))))
        await asyncio.sleep(0)
    await call.send(chunk(finish()), chunk(usage()), chunk(DONE), LAST_CHUNK)


class _Soak:
    """Clients that send requests until all streams have begun, and what they saw."""

    def __init__(self, proxied: Proxied, seed: int) -> None:
        self._proxied = proxied
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._begun = 0
        self._back = asyncio.Event()
        self.seen: Counter[str] = Counter()

    async def run(self) -> None:
        """Send all requests."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for _ in range(CLIENTS):
                group.create_task(self._client())

    async def _client(self) -> None:
        while self._begun < STREAMS:
            self._begun += 1
            if self._begun in KILLS:
                self._back.clear()
                self._group.create_task(self._kill())
            elif self._begun in KILLS.values():
                self._back.set()
            leaves = self._random.choice((*LEAVING, None, None, None, None))
            self.seen[await self._request(leaves, self._random.randrange(1, TOKENS))] += 1

    async def _kill(self) -> None:
        async with self._proxied.upstream.killed():
            await self._back.wait()

    async def _request(self, leaves: str | None, chunks: int) -> str:
        """Send one request and read all of the response, or leave; return what the client saw."""
        async with self._proxied.client() as client:
            await client.send(request(body=ask_stream()))
            if leaves is None:
                try:
                    got = await client.reply()
                except BrokenReply:
                    return "broken"
                return "whole" if got.code == 200 else str(got.code)
            if leaves != "at once" and (await client.head()).code == 200 and leaves != "after the head":
                await self._read(client.chunk, chunks)
            if leaves == "with a reset":
                client.reset()
            return "left"

    async def _read(self, read: Callable[[], Awaitable[bytes]], chunks: int) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while chunks and await read():
                chunks -= 1


def open_descriptors() -> int:
    """Return the number of descriptors that this process has open."""
    return sum(1 for _ in Path("/dev/fd").iterdir())


async def returns_to(descriptors: int) -> None:
    """Wait until no more descriptors are open than before; kept connections are closed after 3 s."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while open_descriptors() > descriptors:  # noqa: ASYNC110 - a descriptor has no event
            await asyncio.sleep(0.02)


async def test_streams_whose_clients_and_server_leave(start_proxied: StartProxied) -> None:
    """Of 300 streams, while the server is killed and started again twice, each is counted with what became of it."""
    proxied = await start_proxied(_stream)
    async with proxied.client() as client:  # whatever is opened once, such as the timer of the loop's delay
        await client.send(request(body=ask_stream()))
        assert (await client.reply()).code == 200
    await proxied.observed(1)
    before = open_descriptors()
    soak = _Soak(proxied, seed=1)
    await soak.run()
    assert sum(soak.seen.values()) == STREAMS
    counted = Counter(labels["outcome"] for labels in await proxied.observed(STREAMS + 1))
    counted["ok"] -= 1
    seen = soak.seen
    assert seen["whole"] > STREAMS // 4
    assert seen["left"] > STREAMS // 4
    assert seen["broken"] > 0
    assert seen["502"] > 0
    assert set(counted) <= {"ok", "client_disconnect", "stream_error", "upstream_unreachable"}
    assert seen["whole"] <= counted["ok"] <= seen["whole"] + seen["left"]
    assert seen["broken"] <= counted["stream_error"] <= seen["broken"] + seen["left"]
    assert seen["502"] <= counted["upstream_unreachable"] <= seen["502"] + seen["left"]
    assert proxied.in_flight() == {}
    await returns_to(before)
