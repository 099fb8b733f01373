"""One request to the server and its reply, on a connection that nobody else uses meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import ClientError
from aiohttp.http import StreamWriter

from modelhost_exporter.process.error_frames import without_frames

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import StreamReader
    from aiohttp.http import RawResponseMessage

    from modelhost_exporter.proxy.upstream import Upstream
    from modelhost_exporter.proxy.upstream_connection import UpstreamConnection

_SWITCHING, _FINAL = 101, 200
_MAX_INTERIM = 100
"""Interim replies before the one reply: those that came at once are read without a turn of the event loop."""


class UpstreamCall:
    """One request to the server and its reply; whoever makes one ends it."""

    def __init__(self, upstream: Upstream, connection: UpstreamConnection, *, bodiless: bool) -> None:
        """Take a connection of this upstream's that is free; ``bodiless`` for a HEAD."""
        self._upstream = upstream
        self._connection = connection
        upstream.expect_reply(connection, bodiless=bodiless)
        self._sending: asyncio.Task[None] | None = None
        self._answered = False
        self.broken = False
        """The request's body did not come to its end, so that there is no reply to be had."""
        self.reply: RawResponseMessage
        """Its head; once it is there."""
        self.content: StreamReader
        """Its body; likewise."""

    def send(self, request: bytes) -> None:
        """Send a whole request."""
        transport = self._connection.transport
        if transport is not None:
            transport.write(request)
        self._connection.start_timeout()

    def send_pieces(self, head: bytes, pieces: AsyncIterator[bytes], *, chunked: bool) -> None:
        """Send the head, and from now on the body as it comes."""
        transport = self._connection.transport
        if transport is not None:
            transport.write(head)
        self._sending = asyncio.ensure_future(self._send(pieces, chunked=chunked))

    async def _send(self, pieces: AsyncIterator[bytes], *, chunked: bool) -> None:
        connection = self._connection
        writer = StreamWriter(connection, asyncio.get_running_loop())
        if chunked:
            writer.enable_chunking()
        try:
            async for piece in pieces:
                async with asyncio.timeout(self._upstream.idle_timeout):  # for a server that does not read
                    await writer.write(piece)
            await writer.write_eof()
            connection.start_timeout()
        except Exception as error:  # noqa: BLE001 - whoever waits for the reply is told
            if not connection.is_connected():  # it was the server's side that failed, which its reader learns
                return
            self.broken = not isinstance(error, TimeoutError)
            connection.set_exception(without_frames(error))
            connection.abort()

    async def answered(self) -> None:
        """Wait for the reply's head; raises what the client library raises when there will be none."""
        code = interim = 0
        while code < _FINAL and code != _SWITCHING:  # others are interim replies
            self.reply, self.content = await self._connection.read()
            code = self.reply.code
            interim += 1
            if interim > _MAX_INTERIM:
                raise ClientError("too many interim responses")
            if code < _FINAL and (self._sending is None or self._sending.done()):
                self._connection.start_timeout()  # which an interim reply has stopped
        self._answered = code >= _FINAL

    def without_clock(self) -> None:
        """Stop the time-out, whose clock also runs while a slow client is written to and nothing is read."""
        self._connection.read_timeout = None
        self._connection.start_timeout()

    def rest(self) -> bytes:
        """Return what came of a body before it broke off, and was not read: its reader says only that it did."""
        self.content.set_exception(None)  # type: ignore[arg-type] # there is no other way to it
        return self.content.read_nowait(-1)

    def end(self) -> None:
        """Keep the connection if all was said on both sides, else close it at once."""
        sending = self._sending
        if sending is not None and not sending.done():
            sending.cancel()
        elif self._answered and self.content.at_eof():
            self._upstream.keep(self._connection)
            return
        self._connection.abort()
