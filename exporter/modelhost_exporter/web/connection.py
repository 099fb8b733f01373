"""A connection to the web port, with the state that decides its timeouts."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Protocol

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from modelhost_exporter.process.connection_activity import ConnectionActivity, Phase
from modelhost_exporter.process.connection_limits import (
    ADDRESS_LIMIT,
    CONNECTION_LIMIT,
    DESCRIPTORS,
    client_of,
)
from modelhost_exporter.process.listening import refuse, service_unavailable
from modelhost_exporter.web import families

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import StreamReader

    from modelhost_exporter.config.model import Web
    from modelhost_exporter.process.connection_limits import LimitSettings

MAX_BODY_BYTES = 1 << 16
"""No route reads a body: up to this many bytes are discarded, more close the connection."""

_MAX_FROM_VIEWER_BYTES = 1 << 14
"""Limit of one read from a WebSocket: aiohttp parses all messages of a read at once, thousands of short ones."""
_STALLED_SECONDS = 1.0
_SEND_BUFFER_BYTES = 1 << 17
_RESET = struct.pack("ii", 1, 0)
_BAD_REQUEST, _HEADERS_TOO_LARGE = 400, 431
_BUSY = "the web port has no room for another connection ({})\n"
_WAYS_OUT = {
    ADDRESS_LIMIT: "web.max_connections_per_address",
    CONNECTION_LIMIT: "web.max_connections",
    DESCRIPTORS: "out of file descriptors",
}


class Limiter(Protocol):
    """The owner of all connections, to which each one reports."""

    def settings(self) -> Web:
        """Return the settings in force."""
        ...

    def admit(self, connection: LimitedConnection) -> bool:
        """Return whether a new connection may stay; False after it was refused."""
        ...

    def note_request(self, connection: LimitedConnection) -> None:
        """Record that a connection has just received a request."""
        ...

    def lost(self, connection: LimitedConnection) -> None:
        """Remove a closed connection, whether it was admitted or not."""
        ...

    def note_stall(self, connection: LimitedConnection) -> None:
        """Close connections that stalled earlier, while unsent data exceeds its limit."""
        ...

    def count(self, reason: str) -> None:
        """Count a connection that is closed because of a limit."""
        ...


class LimitedConnection(RequestHandler):
    """An aiohttp connection with timeouts for headers, body, idling and sending, and a limit on header bytes.

    aiohttp itself has only a keep-alive timeout, which applies to a client that sends headers slowly as well.
    """

    __slots__ = (
        *("_activity", "_body_bytes", "_body_held", "_ending", "_head_bytes", "_limiter", "_payload"),
        *("_stream", "address", "is_internal"),
    )

    def __init__(self, server: web.Server, limiter: Limiter, **options: object) -> None:
        super().__init__(server, **options)  # type: ignore[arg-type] # passed on from web.Server
        self._limiter = limiter
        self._stream: asyncio.Transport | None = None
        self._payload: StreamReader = EMPTY_PAYLOAD
        self._activity = ConnectionActivity()
        self._head_bytes = 0
        self._body_bytes = 0
        self._body_held = 0
        self._ending = False
        self.is_internal = False
        """Whether this process itself is the client."""
        self.address = ""
        """The client for limits per address: an IPv4 address, or an IPv6 network of 64 bits."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to serve the connection, unless a limit is reached."""
        self._stream = transport  # type: ignore[assignment] # as in aiohttp
        bare = transport.get_extra_info("socket")
        if bare is not None:  # the kernel's default buffers megabytes for a client that does not read
            bare.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self.address = client_of(transport)
        self._activity.begin(self._loop.time())
        if self._limiter.admit(self):
            super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Clean up; also called for a connection that was refused."""
        self._limiter.lost(self)
        self._stream = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse bytes, and count them for the headers or body that they belong to."""
        if self._ending:
            return
        if self._payload_parser is not None and len(data) > _MAX_FROM_VIEWER_BYTES:
            self._limiter.count(families.TOO_LARGE_BODY)
            self.abort()
            return
        in_body = not self._payload.is_eof()
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._note_head()
        elif data and not self._upgraded:
            self._note_bytes(len(data), in_body=in_body)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send a response and drop its body, since aiohttp keeps the response until the next request.

        Yield to other connections between pipelined requests: from Python 3.12 on, a handler that awaits nothing runs
        at once, and so would thousands of pipelined ones in a row.
        """
        if self._messages or self._upgraded:  # data after a refused upgrade is parsed after the response
            await asyncio.sleep(0)
        if not isinstance(resp, web.Response):
            return await super().finish_response(request, resp, start_time)
        self._body_held = len(resp.body) if isinstance(resp.body, bytes) else 0
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self._body_held = 0
            resp._body = None  # noqa: SLF001 - setting body would rewrite the headers

    def pause_writing(self) -> None:
        """Report that the client reads too slowly."""
        super().pause_writing()
        self._limiter.note_stall(self)

    def abort(self) -> None:
        """Close at once and drop unsent data, also in the kernel, which would otherwise wait for the client."""
        self._ending = True
        if self._stream is None:
            return
        bare = self._stream.get_extra_info("socket")
        if bare is not None and self.unsent_bytes:
            with contextlib.suppress(OSError):
                bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._stream.abort()

    @property
    def unsent_bytes(self) -> int:
        """Bytes in the write buffer."""
        return self._stream.get_write_buffer_size() if self._stream is not None else 0

    @property
    def held_bytes(self) -> int:
        """Bytes held in memory for a client that does not read: the write buffer and the response's body."""
        unsent = self.unsent_bytes
        return unsent + self._body_held if unsent else 0

    def overdue(self, now: float, settings: LimitSettings) -> str | None:
        """Return the reason to close this connection now; None while no timeout has expired."""
        is_sending = self._is_sending(now)
        if self._is_serving() and not is_sending:
            self._activity.active = now  # a handler that awaits a body is not the client's delay
        return self._activity.overdue(now, self._phase(), settings, is_sending=is_sending)

    def precedence(self, now: float) -> tuple[int, float] | None:
        """Return the sort key for closing connections to make room, lowest first; None while it is being served."""
        activity = self._activity
        if self._is_sending(now):
            stalled = activity.stalled_since
            return (2, stalled) if now - stalled > _STALLED_SECONDS else None
        phase = self._phase()
        if phase is Phase.SERVED:
            return None
        if phase is Phase.BODY:
            return 1, activity.active
        return 0, activity.active if activity.headers_since is None else activity.headers_since

    def stalled_since(self, now: float) -> float:
        """Return the time since which no unsent byte was sent; ``now`` if there are none."""
        return self._activity.stalled_since if self._is_sending(now) else now

    def close_for(self, reason: str) -> bool:
        """Count the reason and close at once."""
        self._limiter.count(reason)
        self.abort()
        return True

    def refuse_for(self, reason: str) -> None:
        """Count the reason and close with 503, without serving a request."""
        self._limiter.count(reason)
        self._ending = True
        if self._stream is not None:
            refuse(self._stream, service_unavailable(_BUSY.format(_WAYS_OUT[reason])))

    def _phase(self) -> Phase:
        if not self._payload.is_eof():
            return Phase.BODY
        if self._is_serving():
            return Phase.SERVED
        return Phase.IDLE if self._activity.headers_since is None else Phase.HEADERS

    def _is_serving(self) -> bool:
        return self._current_request is not None or bool(self._messages)

    def _is_sending(self, now: float) -> bool:
        """Return whether there is unsent data, and update the time of the last progress."""
        unsent = self.unsent_bytes
        return self._activity.update_sending(now, unsent, -unsent)  # aiohttp writes by itself: nothing counts its bytes

    def _note_head(self) -> None:
        """Handle complete headers: reset the counts, and refuse headers that are too large, pipelined ones added up."""
        self._activity.active = self._loop.time()
        self._limiter.note_request(self)
        self._payload = self._messages[-1][1]
        self._activity.headers_since, self._head_bytes, self._body_bytes = None, 0, 0
        if sum(map(_head_size, self._messages)) > self._limiter.settings().max_header_bytes:
            self._messages[-1] = self._refuse_headers()

    def _note_bytes(self, size: int, *, in_body: bool) -> None:
        """Count bytes that did not complete a request's headers."""
        self._activity.active = self._loop.time()
        if in_body:
            self._body_bytes += size
            if self._body_bytes > MAX_BODY_BYTES:
                self._limiter.count(families.TOO_LARGE_BODY)
                self.abort()
            return
        if self._activity.headers_since is None:
            self._activity.headers_since = self._activity.active
        self._head_bytes += size
        if self._head_bytes > self._limiter.settings().max_header_bytes:
            self._messages.append(self._refuse_headers())
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)

    def _refuse_headers(self) -> tuple[_ErrInfo, StreamReader]:
        """Return the message that makes aiohttp respond with 431."""
        self._ending = True
        return _ErrInfo(_HEADERS_TOO_LARGE, LineTooLong(b"", 0), "too large headers"), EMPTY_PAYLOAD

    def _make_error_handler(self, err_info: _ErrInfo) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
        """Return the handler for a request that cannot be parsed; aiohttp's own logs a traceback for each."""
        too_large = isinstance(err_info.exc, LineTooLong)
        if too_large:
            self._limiter.count(families.TOO_LARGE_HEADERS)

        async def answer(_request: web.BaseRequest) -> web.StreamResponse:
            limit = self._limiter.settings().max_header_bytes
            text = f"headers of more than {limit} bytes (web.max_header_bytes)\n" if too_large else "not HTTP\n"
            response = web.Response(status=_HEADERS_TOO_LARGE if too_large else _BAD_REQUEST, text=text)
            response.force_close()
            return response

        return answer


def _head_size(message: tuple[object, StreamReader]) -> int:
    """Return the bytes of a request's target and headers; 0 for a request that could not be parsed."""
    head = message[0]
    size = sum(len(name) + len(value) for name, value in getattr(head, "raw_headers", ()))
    return size + len(getattr(head, "path", ""))
