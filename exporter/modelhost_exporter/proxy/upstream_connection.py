"""One connection to a model server: aiohttp's, and that no broken reply and no byte nobody asked for goes unnoticed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import ClientError, ClientPayloadError
from aiohttp.client_proto import ResponseHandler

from modelhost_exporter.process.error_frames import without_frames

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


def _nothing() -> None:
    """Do nothing."""


class UpstreamConnection(ResponseHandler):
    """What aiohttp's client has, which leaves it to its own users to notice some of what can go wrong."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.idle = False
        """Nothing was asked, so that nothing can be answered."""
        self.on_lost: Callable[[], None] = _nothing
        """Called once when the connection is closed."""

    def data_received(self, data: bytes) -> None:
        """Take bytes; what comes while nothing was asked ends the connection, be it half a head or a line's end.

        The next reply gets a parser of its own: what the last one had begun to read would be missing from it.
        """
        if self.idle and data:
            self.abort()
        else:
            super().data_received(data)

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """Tell it to whoever waits for a head, and to whoever reads a body, who would wait for ever."""
        super().set_exception(exc, exc_cause or exc)
        body = self._payload
        if body is not None and not body.is_eof() and body.exception() is None:
            known = isinstance(exc, (ClientError, OSError))
            body.set_exception(exc if known else ClientPayloadError("the reply breaks its framing"))

    def connection_lost(self, exc: BaseException | None) -> None:
        """End all; a body that ends with its connection ended well only if the connection did."""
        body = self._payload
        if exc is not None and body is not None and not body.is_eof():
            body.set_exception(ClientPayloadError("the connection broke"))
        on_lost, self.on_lost = self.on_lost, _nothing
        on_lost()
        super().connection_lost(exc)
        lost = self.exception()
        if lost is not None:
            without_frames(lost)  # one of them has this connection in it: a cycle

    def abort(self) -> None:
        """Close it without waiting for what was not sent yet."""
        if self.transport is not None:
            self.transport.abort()
            self.close()
