"""Connections to one upstream: a pool of kept ones, and the parser of responses (llhttp, strict)."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, Protocol

import httptools
from aiohappyeyeballs import start_connection

from modelhost_exporter.connect_errors import CLOSED, MAY_SPEAK_TLS, SPEAKS_TLS, is_tls
from modelhost_exporter.process.descriptors import is_shortage
from modelhost_exporter.proxy.errors import ConnectTimeout, OutOfDescriptors
from modelhost_exporter.proxy.headers import MAX_LENGTH, Field, HeadTemplate, index, make_field, with_length
from modelhost_exporter.proxy.reachability import Reachability
from modelhost_exporter.threads import call

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiohappyeyeballs import AddrInfoType

    from modelhost_exporter.config.http_url import ServerUrl
    from modelhost_exporter.connect_errors import Cause
    from modelhost_exporter.proxy.downstream import DownstreamConnections

_KEEPALIVE_SECONDS = 3.0
"""uvicorn and llama.cpp close an idle connection after 5 s: a request sent into that moment would be lost."""
_PROOF_SECONDS = 0.25
"""A connection that is open so long after a streamed response was kept by the server."""
_SECOND_ADDRESS_SECONDS = 0.25  # RFC 8305, section 5
_CONTINUE, _SWITCHING, _FINAL = 100, 101, 200
_VERSIONS = ("1.1", "1.0")
_BODILESS = (204, 304)
_MAX_INTERIM = 100
_MAX_HEAD_BYTES = 1 << 18
_MAX_FIELDS = 1000
_END_OF_HEAD = b"\r\n\r\n"

LookUp = Callable[[str, int], "Sequence[AddrInfoType]"]


class ResponseHead(NamedTuple):
    """The status line and the header fields of a response."""

    status: int
    reason: bytes
    fields: list[Field]
    by_key: Mapping[bytes, bytes]
    """The last value of each field, by its name in lower case."""
    is_chunked: bool
    is_bodiless: bool
    forwarded: dict[tuple[bool, bool], HeadTemplate] | None = None
    """Itself as clients receive it, by whether they use HTTP/1.1 and keep the connection; None for one that is not
    repeated."""

    @property
    def is_final(self) -> bool:
        """Whether it is the response, not an interim one (RFC 9110, section 15.2)."""
        return self.status >= _FINAL or self.status == _SWITCHING


class Receiver(Protocol):
    """What a connection delivers its response to."""

    def on_response(self, head: ResponseHead | None, data: bytes, *, complete: bool) -> None:
        """Process what one read contained of a response: its head, a part of its body, its end."""
        ...

    def on_chunk(self, data: bytes, content: bytes) -> None:
        """Process a chunk of a response that one read contained: as it was received, and its content."""
        ...

    def on_interim_response(self, head: ResponseHead) -> None:
        """Process an interim response."""
        ...

    def on_upstream_failure(self, failure: UpstreamFailure) -> None:
        """Process the end of a connection whose response is not complete."""
        ...

    def on_upstream_writable(self, *, writable: bool) -> None:
        """Process that the upstream reads too slowly, or fast enough again."""
        ...

    def on_upgraded_data(self, data: bytes) -> None:
        """Process bytes after a 101."""
        ...


class UpstreamFailure(NamedTuple):
    """Why a response did not come to its end."""

    is_malformed: bool
    """Whether the upstream sent something that is not HTTP; else it closed or reset the connection."""
    is_tls: bool = False
    """Whether that is TLS."""


class _NotForwarded(Exception):
    """A head that llhttp accepts but clients may read in different ways; makes llhttp stop."""


class UpstreamConnection(asyncio.Protocol):
    """One connection to an upstream, for one request at a time.

    Parser callbacks only collect; what one read contained is delivered to the receiver afterwards, in one call.
    """

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self._transport: asyncio.Transport | None = None
        self._receiver: Receiver | None = None
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._is_head_request = False
        self._counted = False
        self.is_reused = False
        """Whether it has carried a request before this one."""
        self.kept_since = 0.0
        self.is_writable = True
        self.is_paused = False
        """Whether the response is not read."""
        self._upgraded = False
        self._keeps_alive = False
        self._surplus = False
        self._reads_until_close = False
        self.has_responded = False
        """Whether any byte of the response was received."""
        self._speaks_tls = False
        self._head_bytes = 0  # received since the last part of a body: of heads, trailers and chunk extensions
        self._interim = 0
        self._is_between_chunks = False  # llhttp expects the size of the next one
        self._latest: tuple[HeadTemplate, ResponseHead] | None = None  # which may be repeated
        self._reset_message()

    def _reset_message(self) -> None:
        self._reason = b""
        self._fields: list[Field] = []
        self._heads: list[ResponseHead] = []
        self._pieces: list[bytes] = []
        self._has_head = False
        self._complete = False

    # what the exchange calls

    @property
    def is_open(self) -> bool:
        """Whether the connection is open, as far as is known."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def is_upgraded(self) -> bool:
        """Whether the upstream has switched to another protocol."""
        return self._upgraded

    @property
    def unsent_bytes(self) -> int:
        """The bytes that the upstream has not read yet."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def start(self, receiver: Receiver, *, is_head_request: bool) -> None:
        """Begin a request, whose response goes to the receiver."""
        self._receiver = receiver
        self._is_head_request = is_head_request
        self.has_responded = False
        self._head_bytes = self._interim = 0
        self._reads_until_close = self._is_between_chunks = False

    def write(self, data: bytes) -> None:
        """Send bytes of the request."""
        if self._transport is not None:
            self._transport.write(data)

    def pause_reading(self) -> None:
        """Stop reading the response."""
        if self.is_open and self._transport is not None:
            self.is_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on reading the response."""
        if self.is_open and self._transport is not None:
            self.is_paused = False
            self._transport.resume_reading()

    def release(self, *, is_streamed: bool) -> None:
        """Return the connection to the pool after a complete request and response."""
        self._receiver = None
        if not (self._keeps_alive and self.is_open) or self._surplus:
            self.abort()
            return
        if self._is_head_request:  # llhttp waits for the body that a response to HEAD does not have
            self._parser = httptools.HttpResponseParser(self)
        self.is_reused = True
        self.upstream.keep(self, is_streamed=is_streamed)

    def close(self) -> None:
        """Close the connection after what was written."""
        self._receiver = None
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self._receiver = None
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = transport  # type: ignore[assignment] # of a stream
        self._counted = True
        self.upstream.connections.opened()

    def connection_lost(self, exc: Exception | None) -> None:
        """End; a body that ends with its connection is complete only if the connection ended well."""
        self._transport = None
        self._parser = None  # it refers to this connection: a cycle for each
        if self._counted:
            self._counted = False
            self.upstream.connections.closed()
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            self.upstream.lost(self)
        else:
            self._end(receiver, well=exc is None)

    def eof_received(self) -> None:
        """End the response at once: asyncio closes only after the rest of the request, which may never be read."""
        receiver = self._receiver
        if receiver is not None and not self._upgraded:  # bytes of a WebSocket may still be read
            self._receiver = None
            self._end(receiver, well=True)
            self.abort()

    def _end(self, receiver: Receiver, *, well: bool) -> None:
        if well and self._reads_until_close:
            receiver.on_response(None, b"", complete=True)
        else:
            receiver.on_upstream_failure(UpstreamFailure(is_malformed=False))

    def pause_writing(self) -> None:
        """Report that the upstream reads too slowly."""
        self.is_writable = False
        if self._receiver is not None:
            self._receiver.on_upstream_writable(writable=False)

    def resume_writing(self) -> None:
        """Report that the upstream reads fast enough again."""
        self.is_writable = True
        if self._receiver is not None:
            self._receiver.on_upstream_writable(writable=True)

    def data_received(self, data: bytes) -> None:
        """Parse bytes and deliver what they contained."""
        receiver, parser = self._receiver, self._parser
        if self._is_between_chunks and receiver is not None:  # most reads of a stream are one chunk
            content = one_chunk(data)
            if content is not None:
                receiver.on_chunk(data, content)
                return
        if receiver is None or parser is None:  # nothing was requested, so that nothing can be answered
            self.abort()
            return
        if self._upgraded:
            receiver.on_upgraded_data(data)
            return
        is_first, self.has_responded = not self.has_responded, True
        if not (is_first and self._repeats(receiver, data)):
            self._parse(receiver, parser, data, is_first=is_first)

    def _repeats(self, receiver: Receiver, data: bytes) -> bool:
        """Deliver a response that has the same head as the latest one, without a parser; return False for any other."""
        if self._latest is None or self._is_head_request:
            return False
        template, head = self._latest
        body = template.body(data)
        if body is None:
            return False
        length = b"%d" % len(body)
        if length != head.by_key[b"content-length"]:
            by_key = {**head.by_key, b"content-length": length}
            head = head._replace(fields=with_length(head.fields, length), by_key=by_key)
        receiver.on_response(head, body, complete=True)
        return True

    def _learn(self, data: bytes) -> None:
        """Keep the head of a response that was received at once, if it can be repeated."""
        self._latest = None
        head = self._heads[0]
        if head.is_bodiless or not self._keeps_alive or self._surplus or len(self._heads) > 1:
            return
        size = len(data) - sum(map(len, self._pieces))
        if data.find(_END_OF_HEAD) == size - len(_END_OF_HEAD):
            template = HeadTemplate.of(data[:size], head.by_key, len(head.fields))
            if template is not None:
                self._latest = template, head._replace(forwarded={})

    def _parse(self, receiver: Receiver, parser: httptools.HttpResponseParser, data: bytes, *, is_first: bool) -> None:
        """Parse bytes and deliver what they contained."""
        malformed, rest = False, b""
        self._is_between_chunks = False
        self._head_bytes += len(data)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgraded = True
            rest = data[upgrade.args[0] :]
        except httptools.HttpParserError:
            malformed = not self._complete
            self._surplus = True
        if self._head_bytes > _MAX_HEAD_BYTES or len(self._fields) > _MAX_FIELDS:
            malformed = True
        # a size that is not complete is no event of llhttp, but then these bytes do not end with a line
        self._is_between_chunks = self._is_between_chunks and not malformed and data.endswith(b"\r\n")
        if self._heads or self._complete or malformed or rest:
            if is_first and self._complete and not malformed:
                self._learn(data)
            if is_first and malformed:
                self._speaks_tls = is_tls(data)
            self._deliver(receiver, rest, malformed=malformed)
        elif self._pieces:  # most reads of a stream
            pieces, self._pieces = self._pieces, []
            receiver.on_response(None, pieces[0] if len(pieces) == 1 else b"".join(pieces), complete=False)

    def _deliver(self, receiver: Receiver, rest: bytes, *, malformed: bool) -> None:
        """Deliver what one read contained, in order."""
        head = None
        if self._heads:
            heads, self._heads = self._heads, []
            for each in heads:
                if each.is_final:
                    head = each
                    break
                self._interim += 1
                if self._interim > _MAX_INTERIM:
                    malformed, self._complete, self._pieces = True, False, []
                    break
                receiver.on_interim_response(each)
        pieces, complete = self._pieces, self._complete
        data = b""
        if pieces:
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self._pieces = []
        if complete:
            self._reset_message()
        if head is not None or data or complete:
            receiver.on_response(head, data, complete=complete)
        if rest and self._receiver is receiver:
            receiver.on_upgraded_data(rest)
        if malformed and self._receiver is receiver:
            self._end_malformed(receiver)

    def _end_malformed(self, receiver: Receiver) -> None:
        self._receiver = None
        self.abort()
        if self._speaks_tls:
            self.upstream.reachability.failed(str(SPEAKS_TLS))
        receiver.on_upstream_failure(UpstreamFailure(is_malformed=True, is_tls=self._speaks_tls))

    # llhttp

    def on_message_begin(self) -> None:
        """Begin a response; one after the response that was requested is surplus."""
        if self._complete:
            self._surplus = True

    def on_status(self, reason: bytes) -> None:
        """Collect the reason phrase, in one part or several."""
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a field; those after the head are trailers, which are not forwarded."""
        if not self._has_head:
            self._fields.append(make_field((name.lower(), name, value)))

    def on_headers_complete(self) -> None:
        """Collect a head."""
        parser = self._parser
        if self._complete or parser is None:
            return
        status, fields = parser.get_status_code(), self._fields
        by_key = index(fields)
        chunked, length = b"transfer-encoding" in by_key, b"content-length" in by_key
        self._head_bytes = 0
        if not _is_valid(status, parser.get_http_version(), chunked=chunked, length=length):
            raise _NotForwarded
        if length and int(by_key[b"content-length"]) > MAX_LENGTH:
            raise _NotForwarded
        bodiless = self._is_head_request or status in _BODILESS
        head = ResponseHead(status, self._reason, fields, by_key, chunked, bodiless)
        self._heads.append(head)
        self._reason, self._fields = b"", []
        if not head.is_final:
            return
        if not self.upstream.reachability.is_reached:
            self.upstream.reachability.responded()
        self._has_head = True
        self._keeps_alive = parser.should_keep_alive()
        self._reads_until_close = not (chunked or length or bodiless)
        self._complete = self._is_head_request
        self._is_between_chunks = chunked and not bodiless

    def on_chunk_header(self) -> None:
        """Note the size of a chunk."""
        self._is_between_chunks = False

    def on_chunk_complete(self) -> None:
        """Note the end of a chunk."""
        self._is_between_chunks = not self._complete

    def on_body(self, piece: bytes) -> None:
        """Collect a part of the body."""
        self._head_bytes = 0
        if self._complete:
            self._surplus = True
        else:
            self._pieces.append(piece)

    def on_message_complete(self) -> None:
        """Note the end of a message, unless it is an interim response."""
        if self._has_head:
            self._complete = True
            self._is_between_chunks = False


class Upstream:
    """The connections to one URL. Whoever makes one closes it."""

    def __init__(  # noqa: PLR0913 - replaced by tests, for the most part
        self,
        url: ServerUrl,
        connections: DownstreamConnections,
        connect_timeout: float,
        keepalive_seconds: float = _KEEPALIVE_SECONDS,
        look_up: LookUp | None = None,
        *,
        server: str = "",
    ) -> None:
        """Prepare; ``look_up`` resolves names and may block: it is called in a thread. ``server`` is for the log."""
        parts = url.url
        self.where = f"{parts.scheme}://{url.host_port}"
        """The URL without its path, for clients."""
        self.reachability = Reachability(server, url.text)
        self.host = (parts.host_port_subcomponent or "").encode()
        """The value of Host in its requests."""
        self.prefix = url.prefix.encode()
        """The path in front of every path."""
        self.connections = connections
        self._address = (parts.raw_host or "", parts.port or 0)
        self._tls = _tls() if parts.scheme == "https" else None
        self._connect_timeout = connect_timeout
        self._keepalive_seconds = keepalive_seconds
        self._look_up_name = look_up or _look_up
        self._looking_up: asyncio.Future[Sequence[AddrInfoType]] | None = None
        self._kept: deque[UpstreamConnection] = deque()
        self._unproven: dict[UpstreamConnection, asyncio.TimerHandle] = {}
        self._keeps_streamed = False
        self._sweeping: asyncio.TimerHandle | None = None
        self._closed = False

    def close(self) -> None:
        """Close the connections that are kept; those in use are closed when their requests end."""
        self._closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        for connection, timer in self._unproven.items():
            timer.cancel()
            connection.abort()
        self._unproven.clear()
        while self._kept:
            self._kept.pop().abort()

    def take(self) -> UpstreamConnection | None:
        """Return a kept connection that is open, as far as is known; None when there is none."""
        oldest = monotonic() - self._keepalive_seconds
        while self._kept:
            connection = self._kept.pop()
            if connection.kept_since > oldest and connection.is_open:
                return connection
            connection.abort()
        return None

    def keep(self, connection: UpstreamConnection, *, is_streamed: bool) -> None:
        """Keep a connection for the next request.

        Some servers (cpp-httplib, below llama.cpp) promise to keep a connection and close it right after a streamed
        response. So one is used again only when it, or another one after a streamed response, has stayed open for a
        while.
        """
        if self._closed:
            connection.abort()
            return
        connection.kept_since = monotonic()
        if is_streamed and not self._keeps_streamed:
            timer = asyncio.get_running_loop().call_later(_PROOF_SECONDS, self._prove, connection)
            self._unproven[connection] = timer
            return
        self._kept.append(connection)
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(self._keepalive_seconds, self._sweep)

    def lost(self, connection: UpstreamConnection) -> None:
        """Forget a kept connection that was closed."""
        timer = self._unproven.pop(connection, None)
        if timer is not None:
            timer.cancel()
        elif connection in self._kept:
            self._kept.remove(connection)

    def distrust(self) -> None:
        """Note that a kept connection was closed under a request: the proof of keeping them is void."""
        self._keeps_streamed = False

    def _prove(self, connection: UpstreamConnection) -> None:
        del self._unproven[connection]
        if connection.is_open:
            self._keeps_streamed = True
            self.keep(connection, is_streamed=False)
        else:
            connection.abort()

    def _sweep(self) -> None:
        """Close what was kept for too long; the oldest come first."""
        oldest = monotonic() - self._keepalive_seconds
        while self._kept and self._kept[0].kept_since <= oldest:
            self._kept.popleft().abort()
        self._sweeping = None
        if self._kept:
            delay = self._kept[0].kept_since - oldest
            self._sweeping = asyncio.get_running_loop().call_later(delay, self._sweep)

    def on_closed(self) -> Cause:
        """Return why it closed a connection without a response; log that where it has never sent any."""
        if self._tls is not None or self.reachability.has_responded:
            return CLOSED
        self.reachability.failed(str(MAY_SPEAK_TLS))
        return MAY_SPEAK_TLS

    async def connect(self) -> UpstreamConnection:
        """Return a new connection; raises OSError, ConnectTimeout, OutOfDescriptors."""
        if not self.connections.can_connect():
            raise OutOfDescriptors
        try:
            async with asyncio.timeout(self._connect_timeout):
                return await self._connect()
        except TimeoutError as error:
            raise ConnectTimeout from error
        except RuntimeError as error:  # what uvloop raises for some of the system's errors
            raise OSError(str(error)) from error
        except OSError as error:
            if is_shortage(error):
                self.connections.note_shortage()
            raise

    async def _connect(self) -> UpstreamConnection:
        host, port = self._address
        infos = _numeric(host, port) or await self._addresses()
        sock = await start_connection(infos, happy_eyeballs_delay=_SECOND_ADDRESS_SECONDS, interleave=1)
        _, connection = await asyncio.get_running_loop().create_connection(
            partial(UpstreamConnection, self),
            sock=sock,
            ssl=self._tls,
            server_hostname=host.rstrip(".") if self._tls is not None else None,
        )
        return connection

    async def _addresses(self) -> Sequence[AddrInfoType]:
        """Resolve the host, once for all requests that wait: each attempt that hangs occupies a thread."""
        pending = self._looking_up
        if pending is None or pending.done():
            pending = self._looking_up = call(partial(self._look_up_name, *self._address))
            pending.add_done_callback(asyncio.Future.exception)  # nobody may be waiting for it any more
        return await asyncio.shield(pending)


def one_chunk(data: bytes) -> bytes | None:
    """Return the content of bytes that are one chunk with a size as this proxy writes it; None for all others."""
    end = data.find(b"\r\n", 1, 12)
    content = data[end + 2 : -2]
    is_one = end > 0 and bool(content) and data.endswith(b"\r\n") and data[:end] == b"%x" % len(content)
    return content if is_one else None


def _is_valid(status: int, version: str, *, chunked: bool, length: bool) -> bool:
    """Return whether a head is of HTTP/1 and framed as its version and status allow.

    An interim response has no body (RFC 9110, section 8.6), and HTTP/1.0 no chunked coding (RFC 9112, section 6.1).
    """
    if version not in _VERSIONS or status < _CONTINUE:
        return False
    return not (status < _FINAL and (chunked or length)) and not (chunked and version != "1.1")


def _look_up(host: str, port: int) -> Sequence[AddrInfoType]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


def _numeric(host: str, port: int) -> Sequence[AddrInfoType]:
    """Return an IP address without a look-up, which needs no thread; nothing for a name."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return ()


def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
