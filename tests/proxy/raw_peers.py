"""A client and a server that write given bytes, and wait until all that follows has happened, without timers."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, cast

from tests.proxy.reference import Message, Reader
from tests.proxy.upstream import DEADLINE_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

_QUIET_TURNS = 30
"""Turns of the event loop without an event after which nothing more happens: a connection is made in about ten."""


class Activity:
    """A count of all that happens on the sockets of a test; all peers share an event loop with the proxy."""

    def __init__(self) -> None:
        self.events = 0

    async def settle(self) -> None:
        """Return once nothing happens any more."""
        quiet = 0
        while quiet < _QUIET_TURNS:
            before = self.events
            await asyncio.sleep(0)
            quiet = quiet + 1 if self.events == before else 0

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition, which may also depend on timers and threads."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not condition():  # noqa: ASYNC110 - it is made of the bytes of all peers
                await asyncio.sleep(0)


class Peer(asyncio.Protocol):
    """One side of a connection."""

    def __init__(self, activity: Activity) -> None:
        self.activity = activity
        self.transport: asyncio.Transport
        self.is_open = False
        self.was_reset = False
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.Transport", transport)
        self.is_open = True
        self.activity.events += 1

    def data_received(self, data: bytes) -> None:
        """Keep what is received."""
        self.received += data
        self.activity.events += 1

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self.is_open = False
        self.was_reset = exc is not None
        self.activity.events += 1

    async def send(self, pieces: Sequence[bytes]) -> None:
        """Write each piece after the one before was received, as far as it is."""
        for piece in pieces:
            if not self.is_open:
                return
            self.transport.write(piece)
            for _ in range(2):
                await asyncio.sleep(0)


class ServerPeer(Peer):
    """The server's side of one connection."""

    def __init__(self, server: RawServer) -> None:
        super().__init__(server.activity)
        self._server = server
        self._reader = Reader()
        self._known = 0
        self._answered = 0

    def data_received(self, data: bytes) -> None:
        """Read requests, and answer those that are complete."""
        super().data_received(data)
        reader = self._reader
        reader.feed(data)
        assert reader.error is None, f"the proxy sent what the reference refuses: {reader.error}: {self.received!r}"
        self._server.requests += reader.messages[self._known :]
        self._known = len(reader.messages)
        for message in reader.complete[self._answered :]:
            self._answered += 1
            self._server.answer(self, message)


class RawServer:
    """A server that reads requests as strictly as the reference, and answers as a function has it."""

    def __init__(self, answer: Callable[[ServerPeer, Message], None]) -> None:
        self.activity = Activity()
        self.answer = answer
        self.requests: list[Message] = []
        """All requests, in the order of their heads; incomplete ones included."""
        self.port = 0

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[RawServer]:
        """Listen on a free port."""
        server = await asyncio.get_running_loop().create_server(lambda: ServerPeer(self), "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    @contextlib.asynccontextmanager
    async def client(self, port: int) -> AsyncIterator[Peer]:
        """Connect to a port; afterwards close, and wait until all that follows has happened."""
        _, client = await asyncio.get_running_loop().create_connection(lambda: Peer(self.activity), "127.0.0.1", port)
        try:
            yield client
        finally:
            client.transport.abort()
            await self.activity.settle()
