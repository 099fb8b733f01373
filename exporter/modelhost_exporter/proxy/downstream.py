"""Connections from clients: the parser of requests (llhttp, strict), one exchange at a time, in order."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Protocol, cast

import httptools

from modelhost_exporter.process.connection_activity import BODY_TIMEOUT, ConnectionActivity, Phase
from modelhost_exporter.process.connection_limits import (
    ADDRESS_LIMIT,
    CONNECTION_LIMIT,
    DESCRIPTORS,
    ConnectionLimits,
    client_of,
    loop_time,
)
from modelhost_exporter.process.descriptors import CONNECT, Descriptors
from modelhost_exporter.process.hangups import Hangups
from modelhost_exporter.process.listening import refuse, service_unavailable
from modelhost_exporter.proxy import headers
from modelhost_exporter.proxy.errors import Refused
from modelhost_exporter.proxy.headers import Field, HeadTemplate, index, make_field
from modelhost_exporter.proxy.request_validation import has_extra_spaces, refusal_of_unreadable
from modelhost_exporter.proxy.self_metrics import TOO_LARGE_HEADERS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from modelhost_exporter.process.connection_limits import LimitSettings
    from modelhost_exporter.proxy.self_metrics import SelfMetrics
    from modelhost_exporter.proxy.settings import ProxySettings
    from modelhost_exporter.proxy.upstream import Upstream

_SLICE_BYTES = 1 << 16
"""Requests that were sent at once are parsed so many bytes at a time."""
_MAX_PIPELINED_BYTES = 1 << 16
_LINGER_SECONDS = 2.0
_END_OF_HEAD = b"\r\n\r\n"
_WEBSOCKET = b"websocket"
_BAD_REQUEST, _REQUEST_TIMEOUT, _HEADERS_TOO_LARGE = 400, 408, 431
_BUSY = "the proxy has no room for another connection ({})\r\n"
_REFUSALS = {
    ADDRESS_LIMIT: _BUSY.format("proxy.max_connections_per_address"),
    CONNECTION_LIMIT: _BUSY.format("proxy.max_connections"),
    DESCRIPTORS: "the proxy is out of file descriptors\r\n",
}
_RESET = struct.pack("ii", 1, 0)


class Request:
    """One request as it is received: its head, and the parts of its body that were not passed on yet."""

    __slots__ = (
        *("begins_data", "by_key", "complete", "fields", "forwarded", "is_head_complete", "is_http11", "keep_alive"),
        *("method", "path", "pieces", "refusal", "target", "template", "version"),
    )

    def __init__(self, *, begins_data: bool = False) -> None:
        self.begins_data = begins_data
        """Whether nothing comes before it in the bytes that it was received with."""
        self.method = b""
        self.target = b""
        self.version = "1.1"
        self.is_http11 = True
        self.fields: list[Field] = []
        self.by_key: dict[bytes, bytes] = {}
        """The last value of each field, by its name in lower case; once the head is complete."""
        self.keep_alive = False
        self.is_head_complete = False
        self.complete = False
        """Whether all of it was received."""
        self.pieces: list[bytes] = []
        self.refusal: Refused | None = None
        """Why it is not forwarded; None while nothing is wrong with it."""
        self.path = b""
        """Path and query for the upstream, once they were validated; '' before."""
        self.template: HeadTemplate | None = None
        """Its head, where the connection may repeat it."""
        self.forwarded: tuple[Upstream, HeadTemplate] | None = None
        """Its head as an upstream receives it; None while it was not forwarded, or where it may not be repeated."""

    def learn(self, data: bytes) -> bool:
        """Keep the head if it can be repeated; ``data`` begins with it. Return whether it can."""
        if not (self.complete and self.keep_alive) or b"upgrade" in self.by_key or b"expect" in self.by_key:
            return False
        head = data[: len(data) - sum(map(len, self.pieces))]
        if head.find(_END_OF_HEAD) == len(head) - len(_END_OF_HEAD):
            self.template = HeadTemplate.of(head, self.by_key, len(self.fields))
        return self.template is not None

    def repeat(self, data: bytes) -> bool:
        """Become the next request if these bytes are the same head with a whole body; return whether they are."""
        body = None if self.template is None else self.template.body(data)
        if body is None:
            return False
        length = b"%d" % len(body)
        if length != self.by_key[b"content-length"]:
            self.fields = headers.with_length(self.fields, length)
            self.by_key[b"content-length"] = length
        self.pieces = [body] if body else []
        return True

    @property
    def expects_continue(self) -> bool:
        """Whether its client waits for a 100 before it sends the body (RFC 9110, section 10.1.1)."""
        return self.is_http11 and self.by_key.get(b"expect", b"").rstrip(b" \t").lower() == b"100-continue"

    @property
    def has_body(self) -> bool:
        """Whether it has a body, which may be empty."""
        return b"content-length" in self.by_key or b"transfer-encoding" in self.by_key

    @property
    def is_chunked(self) -> bool:
        """Whether it has a body without a length."""
        return b"transfer-encoding" in self.by_key

    @property
    def length(self) -> int | None:
        """The length of its body; None where it has none. Only for a request that was validated."""
        value = self.by_key.get(b"content-length")
        return None if value is None else int(value)

    @property
    def switches_protocol(self) -> bool:
        """Whether it asks for another protocol that some servers know: a WebSocket or a plain tunnel."""
        return self._upgrades_to(_WEBSOCKET) or self._upgrades_to(b"tcp")

    @property
    def is_websocket(self) -> bool:
        """Whether it is the handshake of a WebSocket (RFC 6455, section 4.1)."""
        return self.method == b"GET" and self.is_http11 and self._upgrades_to(_WEBSOCKET)

    def _upgrades_to(self, protocol: bytes) -> bool:
        return (
            b"upgrade" in self.by_key
            and protocol in headers.tokens(self.fields, b"upgrade")
            and b"upgrade" in headers.tokens(self.fields, b"connection")
        )


class RequestHandler(Protocol):
    """The exchange of one request, as its connection sees it."""

    def begin(self) -> None:
        """Begin, once the head is complete, with what was received of the body."""
        ...

    def on_request_body(self, data: bytes, *, complete: bool) -> None:
        """Process the next part of the body; ``complete`` with the last one."""
        ...

    def on_request_broken(self, refusal: Refused) -> None:
        """Process that the rest of the body is malformed."""
        ...

    def on_client_lost(self) -> None:
        """Process the end of the connection."""
        ...

    def on_client_writable(self, *, writable: bool) -> None:
        """Process that the client reads too slowly, or fast enough again."""
        ...


class Accepting(Protocol):
    """The listener of a connection."""

    connections: DownstreamConnections

    def count_closed(self, reason: str) -> None:
        """Count a connection that is closed because of a limit."""
        ...

    def add(self, connection: DownstreamConnection) -> None:
        """Add a connection that was accepted."""
        ...

    def remove(self, connection: DownstreamConnection) -> None:
        """Remove a connection that is closed."""
        ...

    def handler(self, connection: DownstreamConnection, request: Request) -> RequestHandler:
        """Return the exchange of a request."""
        ...


class DownstreamConnection(asyncio.Protocol):
    """One client's connection.

    Parser callbacks only collect; exchanges are called once the bytes of a read are parsed. Requests that arrive
    while one is in progress wait, unparsed.
    """

    def __init__(self, listener: Accepting) -> None:
        self._listener = listener
        self._activity = ConnectionActivity()
        self._written = 0
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._incoming: Request | None = None
        self._ready: deque[Request] = deque()
        self._exchange: RequestHandler | None = None
        self._request: Request | None = None
        self._waiting = bytearray()
        self._received: bytes | bytearray = b""  # what is being parsed
        self._partial_head = bytearray()  # what was received of a head that is not complete
        self._head_bytes = 0  # received since the last part of a body: of heads, trailers and chunk extensions
        self._discards = False
        self._upgrading: Request | None = None
        self._tunnel: Callable[[bytes], None] | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._is_rereading = False
        self._is_between = True  # nothing of what is being parsed belongs to a request so far
        self._admitted = False
        self.is_paused = False
        """Whether the client is not read."""
        self._latest: Request | None = None  # whose head may be repeated
        self._watched: int | None = None  # the socket, while it is not read
        self.is_writable = True
        self.address = ""
        """The client for limits per address."""
        self.is_encrypted = False

    # what the exchange and the listener call

    @property
    def certificate(self) -> Mapping[str, object] | None:
        """The verified certificate of the client; None without one."""
        return None if self._transport is None else self._transport.get_extra_info("peercert")

    @property
    def is_open(self) -> bool:
        """Whether the client can be written to, as far as is known."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def is_idle(self) -> bool:
        """Whether no request is in progress, and the connection is open."""
        return self._exchange is None and self._incoming is None and not self._ready and self.is_open

    def write(self, data: bytes) -> None:
        """Send bytes to the client."""
        if self._transport is not None:
            self._written += len(data)
            self._transport.write(data)

    def pause_reading(self) -> None:
        """Stop reading the request; that its client leaves is still noticed."""
        if self.is_open and self._transport is not None and not self.is_paused:
            self.is_paused = True
            self._transport.pause_reading()
            if self._tunnel is None:  # what was sent before the end of a WebSocket is still forwarded
                self._watched = self._transport.get_extra_info("socket").fileno()
                self._listener.connections.hangups.watch(self._watched, self.abort)

    def resume_reading(self) -> None:
        """Go on reading the request."""
        if self.is_paused and self.is_open and self._transport is not None:
            self.is_paused = False
            self._stop_watching()
            self._activity.active = loop_time()
            self._transport.resume_reading()

    def _stop_watching(self) -> None:
        if self._watched is not None:
            self._listener.connections.hangups.forget(self._watched)
            self._watched = None

    def finished(self, *, keep_alive: bool) -> None:
        """End the exchange in progress, whose response was written; begin the next one, or close."""
        request, self._exchange = self._request, None
        self._activity.active = loop_time()
        if self.is_paused:
            self.resume_reading()
        if self._upgrading is not None and request is self._upgrading:
            self._upgrading = None
            keep_alive = keep_alive and not self._waiting  # they were meant for the other protocol
        if not keep_alive or (self._discards and not self._ready):
            self._close_gracefully()
        elif request is not None and request.complete:
            self._request = None
            if self._ready or self._waiting:
                asyncio.get_running_loop().call_soon(self._continue)

    def open_tunnel(self, receive: Callable[[bytes], None]) -> bytes:
        """Pass all further bytes to a function; return those that have arrived."""
        self._tunnel = receive
        self.resume_reading()
        waiting, self._waiting = bytes(self._waiting), bytearray()
        return waiting

    def close(self) -> None:
        """Close after what was written."""
        if self._transport is not None:
            self._transport.close()

    def cut(self, *, with_reset: bool) -> None:
        """Close so that a response that broke off is not taken for a complete one.

        ``with_reset`` where the end of the connection would be the end of the response (HTTP/1.0).
        """
        self._exchange = None
        if not self.is_open or self._transport is None:  # uvloop's socket may be another connection's by now
            return
        self._discards = True
        if with_reset:
            self._set_linger_of_zero(self._transport)
            self._transport.abort()
        else:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    # timeouts and limits

    def overdue(self, now: float, settings: LimitSettings) -> str | None:
        """Return the reason to close this connection now; None while no timeout has expired."""
        return self._activity.overdue(now, self._phase(), settings, is_sending=self._is_sending(now))

    def precedence(self, now: float) -> tuple[int, float] | None:
        """Return the sort key for closing connections to make room; None while a request is in progress."""
        is_over = self._lingering is not None  # and waits only for its client to close as well
        if not (is_over or self._phase() in (Phase.IDLE, Phase.HEADERS)) or self._is_sending(now):
            return None
        return 0, self._activity.active

    def close_for(self, reason: str) -> bool:
        """Count the reason and close; an unfinished body is answered first, in the dialect's format."""
        self._listener.count_closed(reason)
        if reason == BODY_TIMEOUT and self._exchange is not None:
            self._discards = True
            self._exchange.on_request_broken(Refused(_REQUEST_TIMEOUT, "the request's body was not received in time"))
            return False
        self._discards = True
        if self._transport is not None:
            if self._transport.get_write_buffer_size():  # else the kernel goes on to wait for the client
                self._set_linger_of_zero(self._transport)
            self._transport.abort()
        return True

    def refuse_for(self, reason: str) -> None:
        """Count the reason and close a new connection with 503."""
        self._listener.count_closed(reason)
        self._discards = True
        if self._transport is not None:
            refuse(self._transport, service_unavailable(_REFUSALS[reason]))

    def _phase(self) -> Phase:
        request = self._request
        if self._discards:  # it is being closed
            return Phase.SERVED
        if request is not None and not request.complete:
            return Phase.SERVED if self.is_paused else Phase.BODY
        if self._exchange is not None or self._ready:
            return Phase.SERVED
        return Phase.IDLE if self._activity.headers_since is None else Phase.HEADERS

    def _is_sending(self, now: float) -> bool:
        """Return whether the client has not received all that was written, and note its progress."""
        unsent = 0 if self._transport is None else self._transport.get_write_buffer_size()
        return self._activity.update_sending(now, unsent, self._written - unsent)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, unless a limit is reached."""
        self._transport = cast("asyncio.Transport", transport)
        self.address = client_of(transport)
        self.is_encrypted = bool(transport.get_extra_info("is_tls"))
        self._activity.begin(loop_time())
        self._admitted = self._listener.connections.admit(self)
        if self._admitted:
            self._listener.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - its reason changes nothing
        """End; a request in progress is cancelled."""
        self._transport = None
        self._stop_watching()
        self._parser = None  # it refers to this connection: a cycle for each
        if self._lingering is not None:
            self._lingering.cancel()
        self._listener.connections.lost(self)
        if self._admitted:
            self._listener.remove(self)
        exchange, self._exchange = self._exchange, None
        self._tunnel = None  # it refers to this connection too
        self._ready.clear()
        self._waiting.clear()
        if exchange is not None:
            exchange.on_client_lost()

    def pause_writing(self) -> None:
        """Report that the client reads too slowly."""
        self.is_writable = False
        if self._exchange is not None:
            self._exchange.on_client_writable(writable=False)

    def resume_writing(self) -> None:
        """Report that the client reads fast enough again."""
        self.is_writable = True
        if self._exchange is not None:
            self._exchange.on_client_writable(writable=True)
        else:
            self._continue()

    def data_received(self, data: bytes) -> None:
        """Parse bytes, and begin or continue the request that they belong to."""
        if self._discards:
            return
        if self._tunnel is not None:
            self._tunnel(data)
        elif self._waiting or self._upgrading is not None or self._is_busy():
            self._wait(data)
        elif self._latest is None or self._incoming is not None or not self._repeats(self._latest, data):
            self._feed(data)

    def _repeats(self, latest: Request, data: bytes) -> bool:
        """Begin a request that has the same head as the latest one, without a parser; return False for any other."""
        connections = self._listener.connections
        limits = connections.settings()
        if len(data) > limits.max_header_bytes or len(latest.fields) > limits.max_headers:
            return False
        if self._exchange is not None or self._request is not None or self._ready or not latest.repeat(data):
            return False
        self._activity.active = loop_time()
        connections.note_request(self)
        self._head_bytes = 0
        self._begin(latest)
        return True

    def _is_busy(self) -> bool:
        """Return whether bytes belong to a request that cannot begin yet.

        Either the one in progress was received completely, or the client has not read enough of the responses before:
        responses to requests that were sent at once would pile up.
        """
        if self._exchange is None:
            return self._request is None and not self.is_writable
        return self._request is not None and self._request.complete

    def _wait(self, data: bytes) -> None:
        """Keep bytes of later requests; beyond a limit they are dropped and the connection ends with this request.

        Bytes after a handshake are the other protocol's: beyond the limit they stay unread until it is answered.
        """
        if self._upgrading is not None:
            self._waiting += data
            if len(self._waiting) > _MAX_PIPELINED_BYTES:
                self.pause_reading()
        elif len(self._waiting) + len(data) > _MAX_PIPELINED_BYTES:
            self._discard_pipelined()
        else:
            self._waiting += data

    def _discard_pipelined(self) -> None:
        """Drop what waits, and a request whose body will not be received completely."""
        self._discards = True
        self._waiting.clear()
        incoming, self._incoming = self._incoming, None
        if incoming is not None and incoming in self._ready:
            self._ready.remove(incoming)
        if self._exchange is None and not self._ready:
            self._close_gracefully()

    def _continue(self) -> None:
        """Go on with what waits after the end of an exchange."""
        if self._exchange is not None or not self.is_open or not self.is_writable:
            return
        if self._ready:
            self._begin_next()
        if self._waiting and not self._ready and not self._is_busy():  # also the rest of the request that has begun
            data, self._waiting = bytes(self._waiting), bytearray()
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        """Parse bytes, a slice at a time, until a request is complete."""
        for start in range(0, len(data), _SLICE_BYTES):
            part = data if len(data) <= _SLICE_BYTES else data[start : start + _SLICE_BYTES]
            is_first = self._incoming is None and self._request is None and not self._ready
            self._parse(part)
            if is_first and len(self._ready) == 1 and not self._discards:
                self._latest = self._ready[0] if self._ready[0].learn(part) else None
            self._dispatch()
            if self._discards or self._transport is None:
                return
            if self._upgrading is not None or self._is_busy():
                rest = data[start + _SLICE_BYTES :]
                if rest:
                    self.data_received(rest)
                return

    def _parse(self, data: bytes) -> None:
        while data and self._parser is not None and not self._discards:
            data = self._parse_part(data, self._parser)

    def _parse_part(self, data: bytes, parser: httptools.HttpRequestParser) -> bytes:
        """Parse bytes and return those after a head where llhttp stopped."""
        rest = b""
        if self._incoming is not None and self._incoming.is_head_complete:
            self._activity.active = loop_time()
        self._head_bytes += len(data)
        if self._partial_head:
            self._partial_head += data
        self._received = self._partial_head or data
        self._is_between = self._incoming is None
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = self._after_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse_incoming(data, error)
        self._received = b""
        if self._incoming is not None:
            if not (self._incoming.is_head_complete or self._partial_head):
                self._partial_head += data
            self._check_size(self._incoming)
        return rest

    def _check_size(self, incoming: Request) -> None:
        """Refuse a request whose head, trailers or chunk extensions are too large so far."""
        limits = self._listener.connections.settings()
        has_too_many_fields = False
        if not incoming.is_head_complete:
            if self._activity.headers_since is None:
                self._activity.headers_since = loop_time()
            has_too_many_fields = len(incoming.fields) > limits.max_headers
        if self._head_bytes > limits.max_header_bytes or has_too_many_fields:
            self._refuse(self._too_large())

    def _after_upgrade(self, rest: bytes) -> bytes:
        """Go on after a head that asks for another protocol, where llhttp stops; return the bytes to parse next.

        Unless it is a WebSocket, the request is answered as if it did not ask, body and all (RFC 9110, section 7.8).
        """
        request = self._ready[-1] if self._ready else self._request
        if request is None or request.method == b"CONNECT":
            self._discards = True
            return b""
        if request.is_websocket and not request.has_body:
            self._upgrading = request
            self._waiting += rest
            return b""
        self._parser = httptools.HttpRequestParser(self)
        if request.has_body:
            self._expect_body(request, self._parser)
        return rest

    def _expect_body(self, request: Request, parser: httptools.HttpRequestParser) -> None:
        """Have a fresh parser expect the body of a request whose head another one has parsed."""
        framing = [field for field in request.fields if field.key in (b"content-length", b"transfer-encoding")]
        request.complete = False
        self._incoming = request
        self._is_rereading = True
        try:
            parser.feed_data(headers.serialize(b"POST / HTTP/1.1", framing))
        except httptools.HttpParserError:  # such as a coding that is not accepted
            self._refuse(Refused(_BAD_REQUEST, "malformed HTTP request"))
        self._is_rereading = False

    def _refuse_incoming(self, data: bytes, error: httptools.HttpParserError) -> None:
        """Refuse the request that llhttp cannot parse; requests before it are answered."""
        current = self._request
        if self._incoming is None and ((current is not None and not current.keep_alive) or self._is_last_ready()):
            self._discards = True  # bytes after a request with Connection: close
            return
        is_first = current is None and not self._ready  # else the bytes begin with another request
        unknown_method = is_first and isinstance(error, httptools.HttpParserInvalidMethodError)
        self._refuse(refusal_of_unreadable(data, unknown_method=unknown_method))

    def _is_last_ready(self) -> bool:
        return bool(self._ready) and not self._ready[-1].keep_alive

    def _refuse(self, refusal: Refused) -> None:
        """Refuse the request that is being received, and read nothing more."""
        self._discards = True
        incoming = self._incoming or Request()
        self._incoming = None
        incoming.refusal = refusal
        if incoming is not self._request and incoming not in self._ready:
            incoming.complete = True
            self._ready.append(incoming)

    def _dispatch(self) -> None:
        """Hand what was parsed to the exchange in progress, or begin the next."""
        request, exchange = self._request, self._exchange
        if request is not None and (request.pieces or request.complete or request.refusal is not None):
            self._pass_body(request, exchange)
        if self._exchange is None and self._ready and self._request is None and self.is_writable:
            self._begin_next()

    def _pass_body(self, request: Request, exchange: RequestHandler | None) -> None:
        data, request.pieces = b"".join(request.pieces), []
        if exchange is None:  # it was answered before its body was complete
            if request.complete:
                self._request = None
            elif request.refusal is not None:
                self._close_gracefully()
            return
        if request.refusal is not None:
            exchange.on_request_broken(request.refusal)
        else:
            exchange.on_request_body(data, complete=request.complete)

    def _begin_next(self) -> None:
        self._begin(self._ready.popleft())

    def _begin(self, request: Request) -> None:
        self._request = request
        self._exchange = exchange = self._listener.handler(self, request)
        exchange.begin()

    def _close_gracefully(self) -> None:
        """Close after what was written; what the client still sends is read, for else the kernel would reset."""
        transport = self._transport
        if transport is None or transport.is_closing() or self._lingering is not None:
            return
        request = self._request
        if not self._discards and request is not None and request.complete and not self._waiting:
            transport.close()
            return
        self._discards = True
        if transport.can_write_eof():
            transport.write_eof()
        self._lingering = asyncio.get_running_loop().call_later(_LINGER_SECONDS, transport.close)

    def _set_linger_of_zero(self, transport: asyncio.Transport) -> None:
        # neither asyncio nor uvloop hands out the socket itself
        bare = socket.socket(fileno=transport.get_extra_info("socket").fileno())
        try:
            bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        finally:
            bare.detach()

    # llhttp

    def on_message_begin(self) -> None:
        """Begin a request."""
        if not self._is_rereading:
            self._incoming = Request(begins_data=self._is_between)
            self._is_between = False

    def on_url(self, part: bytes) -> None:
        """Collect the target, in one part or several."""
        if self._incoming is not None and not self._is_rereading:
            self._incoming.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a field; those after the head are trailers, which are not forwarded."""
        incoming = self._incoming
        if incoming is not None and not incoming.is_head_complete:
            incoming.fields.append(make_field((name.lower(), name, value)))

    def on_headers_complete(self) -> None:
        """Note that a head is complete."""
        incoming = self._incoming
        parser = self._parser
        if incoming is None or parser is None or self._is_rereading:
            return
        incoming.method = parser.get_method()
        incoming.version = parser.get_http_version()
        incoming.is_http11 = incoming.version == "1.1"
        incoming.keep_alive = parser.should_keep_alive()
        incoming.by_key = index(incoming.fields)
        incoming.is_head_complete = True
        self._activity.active = loop_time()
        self._activity.headers_since = None
        self._listener.connections.note_request(self)
        if self._is_too_large(incoming):
            incoming.refusal = self._too_large()
            self._discards = True
        elif not (incoming.begins_data and self._received.startswith(b"%b %b H" % (incoming.method, incoming.target))):
            self._check_spaces(incoming)
        self._head_bytes = 0
        if self._partial_head:
            self._partial_head = bytearray()
        self._ready.append(incoming)

    def _check_spaces(self, request: Request) -> None:
        """Refuse a request whose line llhttp accepts, where what is being parsed may begin with something else."""
        if has_extra_spaces(self._received, request.method, request.target):
            request.refusal = Refused(_BAD_REQUEST, "malformed HTTP request")
            self._discards = True

    def _is_too_large(self, request: Request) -> bool:
        """Return whether a complete head is too large; bytes of a body may have arrived with it."""
        limits = self._listener.connections.settings()
        if len(request.fields) > limits.max_headers:
            return True
        if self._head_bytes <= limits.max_header_bytes:
            return False
        size = len(request.target) + sum(len(name) + len(value) for _, name, value in request.fields)
        return size > limits.max_header_bytes

    def _too_large(self) -> Refused:
        self._listener.count_closed(TOO_LARGE_HEADERS)
        return Refused(_HEADERS_TOO_LARGE, "request headers too large (proxy.max_header_bytes, proxy.max_headers)")

    def on_body(self, piece: bytes) -> None:
        """Collect a part of the body."""
        self._head_bytes = 0
        if self._incoming is not None:
            self._incoming.pieces.append(piece)

    def on_message_complete(self) -> None:
        """Note the end of a request."""
        if self._incoming is not None:
            self._incoming.complete = True
            self._incoming = None


class DownstreamConnections(ConnectionLimits[DownstreamConnection]):
    """The connections to all listeners, which share limits, and the file descriptors of both sides."""

    def __init__(
        self, descriptors: Descriptors | None, metrics: SelfMetrics, settings: Callable[[], ProxySettings]
    ) -> None:
        """Prepare; None where file descriptors have no limit."""
        super().__init__(settings, descriptors or Descriptors())
        self.settings = settings
        self.metrics = metrics
        self.hangups = Hangups()

    def opened(self) -> None:
        """Count a connection to an upstream."""
        self.descriptors.opened()

    def closed(self) -> None:
        """Stop counting a connection to an upstream."""
        self.descriptors.closed()

    def can_connect(self) -> bool:
        """Return whether there is a descriptor for a connection to an upstream."""
        return self.descriptors.make_room(CONNECT, self.spare_descriptor)

    def note_shortage(self) -> None:
        """Count a connection to an upstream that failed for want of a descriptor."""
        self.descriptors.note(CONNECT)
