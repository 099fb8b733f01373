"""The server's side of TLS on one connection, between a TCP transport and a protocol that knows no TLS.

asyncio's and uvloop's own TLS shake hands on the event loop, with one context for all, before a protocol has the
connection. Here the protocol has it from the start, so that its limits and timeouts cover the handshake as well. Each
handshake runs in a thread, with the context that is in force then, and a plain HTTP request gets an answer. ::

    TCP transport  ──data_received──>  TlsConnection  ──data_received──>  protocol
                   <──────write──────                 <──────write──────
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from modelhost_exporter.security.tls import is_allowed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from modelhost_exporter.security.tls_listener import TlsListener

PLAIN_HTTP = "plain_http"
PROTOCOL = "protocol"
CLIENT_CERTIFICATE = "client_certificate"
NOT_TRUSTED = "certificate_not_trusted"
CLOSED = "closed"
INTERNAL = "internal"
FAILURES = (PLAIN_HTTP, PROTOCOL, CLIENT_CERTIFICATE, NOT_TRUSTED, CLOSED, INTERNAL)
"""Why handshakes fail."""

_HANDSHAKE_RECORD = 0x16
_LETTERS = range(ord("A"), ord("Z") + 1)  # a method begins with one
_RECORD_BYTES = 1 << 14
_RECORD_HEADER_BYTES, _MAX_RECORD_BYTES = 5, (1 << 14) + 2048
_MAX_DELIVERED_BYTES = 1 << 18
HTTPS_ONLY = b"this port serves HTTPS: use https:// instead of http://\n"
"""The answer to a plain request."""
_PLAIN_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(HTTPS_ONLY), HTTPS_ONLY)
)


class _State(Enum):
    NEW = auto()
    HANDSHAKE = auto()
    OPEN = auto()
    CLOSED = auto()


class _Outcome(Enum):
    MORE = auto()
    """There may be more to decrypt."""
    WAIT = auto()
    """Nothing more before the client sends more."""
    END = auto()
    """The client sends nothing more."""


class TlsConnection(asyncio.Transport, asyncio.Protocol):
    """The protocol of a TCP transport, and the transport of the protocol that it decrypts for."""

    def __init__(self, protocol: asyncio.Protocol, listener: TlsListener) -> None:
        super().__init__()
        self._protocol: asyncio.Protocol | None = protocol
        self._listener = listener
        self._tcp: asyncio.Transport | None = None
        self._state = _State.NEW
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object: ssl.SSLObject | None = None
        self._step: asyncio.Future[bool] | None = None
        self._early = bytearray()
        self._allowed: tuple[str, ...] = ()
        self._certificate: Mapping[str, object] | None = None
        self._is_paused = False
        self._is_closing = False
        self._has_ended = False

    # as the protocol of the TCP transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Pass the connection on at once: limits and timeouts apply from now on."""
        self._tcp = transport  # type: ignore[assignment] # of a TCP listener
        if self._protocol is not None:
            self._protocol.connection_made(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Report the end of the connection, and drop references."""
        protocol, self._protocol = self._protocol, None
        self._state, self._is_closing, self._tcp, self._object = _State.CLOSED, True, None, None
        if self._step is not None:
            self._step.cancel()
            self._step = None
        if protocol is not None:
            protocol.connection_lost(exc)  # type: ignore[arg-type] # typeshed's Exception is narrower than asyncio's

    def data_received(self, data: bytes) -> None:
        """Decrypt, or go on with the handshake."""
        if self._is_closing:
            return
        if self._state is _State.NEW and not self._begins_handshake(data[0]):
            return
        if self._state is _State.OPEN:
            self._incoming.write(data)
            self._deliver()
        else:
            self._early += data
            if self._step is None:
                self._go_on()

    def eof_received(self) -> bool:
        """Report the end of the client's data; return True, since this object closes the transport itself."""
        if self._state is _State.OPEN:
            self._incoming.write_eof()
            self._deliver()
        elif not self._is_closing:
            if self._state is _State.HANDSHAKE:
                self._listener.note_failure(CLOSED, "the client closed the connection", self)
            self.abort()
        return True

    def pause_writing(self) -> None:
        """Pass on that the client reads too slowly."""
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that the client has read."""
        if self._protocol is not None:
            self._protocol.resume_writing()

    # the handshake

    def _begins_handshake(self, first: int) -> bool:
        """Return whether the first byte is TLS; else answer if it may be HTTP, and close."""
        if first == _HANDSHAKE_RECORD:
            self._state = _State.HANDSHAKE
            return True
        if first in _LETTERS:
            self._listener.note_failure(PLAIN_HTTP, "the client sent HTTP without TLS", self)
            self._listener.refresh()
            self._end_with(_PLAIN_ANSWER)
        else:
            self._listener.note_failure(PROTOCOL, "the client did not begin a TLS handshake", self)
            self.abort()
        return False

    def _go_on(self) -> None:
        """Start the next step once it has a whole record: a client that sends single bytes costs no thread each."""
        assert self._tcp is not None  # noqa: S101 - connected
        size = _whole_records(self._early)
        if not size:
            self._tcp.resume_reading()
            return
        self._tcp.pause_reading()  # ssl locks no buffer
        self._incoming.write(self._early[:size])
        del self._early[:size]
        self._step = self._listener.run(self._shake_hands)
        self._step.add_done_callback(self._after_step)

    def _shake_hands(self) -> bool:
        """Go as far as the received bytes allow; return whether the handshake is complete. Runs in a thread."""
        if self._object is None:
            context, self._allowed = self._listener.in_force()
            self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def _after_step(self, step: asyncio.Future[bool]) -> None:
        self._step = None
        if step.cancelled() or self._is_closing or self._tcp is None:
            return
        error = step.exception()
        if error is not None:
            self._fail(*_explained(error))
            return
        self._flush()
        if step.result():
            self._complete()
        else:
            self._go_on()

    def _complete(self) -> None:
        assert self._object is not None  # noqa: S101 - set by the first step
        assert self._tcp is not None  # noqa: S101 - checked before
        self._certificate = self._object.getpeercert() or None
        if self._allowed and self._certificate is not None and not is_allowed(self._certificate, self._allowed):
            self._fail(CLIENT_CERTIFICATE, "no allowed name (client_allowed_sans) in the client's certificate")
            return
        self._state = _State.OPEN
        self._incoming.write(self._early)
        self._early.clear()
        if not self._is_paused:
            self._tcp.resume_reading()
            self._deliver()

    def _fail(self, reason: str, detail: str) -> None:
        self._listener.note_failure(reason, detail, self)
        self._end_with(self._outgoing.read())  # OpenSSL's alert, which says why

    def _end_with(self, last: bytes) -> None:
        self._is_closing = True
        if self._tcp is not None:
            if last:
                self._tcp.write(last)
            self._tcp.close()

    # decrypting

    def _deliver(self) -> None:
        """Pass on everything that can be decrypted, as long as the protocol reads."""
        outcome = _Outcome.MORE
        while outcome is _Outcome.MORE and not (self._is_paused or self._is_closing or self._has_ended):
            data, outcome = self._read()
            if data and self._protocol is not None:
                self._protocol.data_received(data)
            if outcome is _Outcome.END:
                self._has_ended = True
                self._end()

    def _read(self) -> tuple[bytes, _Outcome]:
        """Return decrypted bytes, and what follows them."""
        assert self._object is not None  # noqa: S101 - open
        parts: list[bytes] = []
        size, outcome = 0, _Outcome.MORE
        while outcome is _Outcome.MORE and size < _MAX_DELIVERED_BYTES:
            try:
                part = self._object.read(_RECORD_BYTES)
            except ssl.SSLWantReadError:
                outcome = _Outcome.WAIT
            except ssl.SSLError:  # no TLS record, or no close_notify at the end: HTTP itself defines what is complete
                outcome = _Outcome.END
            else:
                parts.append(part)
                size += len(part)
                outcome = _Outcome.MORE if part else _Outcome.END
        self._flush()  # what TLS itself sends, such as a new key
        return parts[0] if len(parts) == 1 else b"".join(parts), outcome

    def _end(self) -> None:
        """Report that the client sends nothing more; close unless the protocol goes on writing."""
        if self._protocol is None or self._is_closing or not self._protocol.eof_received():
            self.close()

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data and self._tcp is not None:
            self._tcp.write(data)

    # as the transport of the protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return information about TLS, or of the TCP transport."""
        if name == "sslcontext":
            return default if self._object is None else self._object.context
        if name == "ssl_object":
            return default if self._object is None else self._object
        if name == "peercert":
            return default if self._certificate is None else self._certificate
        if name == "is_tls":
            return True
        return default if self._tcp is None else self._tcp.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Pass data to another protocol from now on."""
        self._protocol = protocol  # type: ignore[assignment] # only those that receive bytes are used

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol that receives the data."""
        assert self._protocol is not None  # noqa: S101 - until the connection is lost
        return self._protocol

    def is_closing(self) -> bool:
        """Return whether the connection is closed or being closed."""
        return self._is_closing

    def close(self) -> None:
        """Send what is buffered, then close_notify, then close; before the end of the handshake close at once."""
        if self._is_closing:
            return
        last = b""
        if self._state is _State.OPEN and self._object is not None:
            with contextlib.suppress(ssl.SSLError):  # it waits for the client's close_notify, which we do not
                self._object.unwrap()
            last = self._outgoing.read()
        self._end_with(last)

    def abort(self) -> None:
        """Close at once."""
        self._is_closing = True
        if self._tcp is not None:
            self._tcp.abort()

    def is_reading(self) -> bool:
        """Return whether the protocol receives data."""
        return not (self._is_paused or self._is_closing)

    def pause_reading(self) -> None:
        """Stop to pass data on."""
        self._is_paused = True
        if self._state is _State.OPEN and self._tcp is not None and not self._is_closing:
            self._tcp.pause_reading()

    def resume_reading(self) -> None:
        """Pass on what is left, and read again."""
        if not self._is_paused:
            return
        self._is_paused = False
        if self._state is _State.OPEN and self._tcp is not None and not self._is_closing:
            self._tcp.resume_reading()
            asyncio.get_running_loop().call_soon(self._deliver_later)

    def _deliver_later(self) -> None:
        if self._state is _State.OPEN:
            self._deliver()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send; dropped before the handshake is complete, and when the connection is being closed."""
        if self._is_closing or self._state is not _State.OPEN or self._object is None or not data:
            return
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._object.write(rest) :]
        except ssl.SSLError as error:
            self._listener.note_failure(INTERNAL, str(error), self)
            self.abort()
        else:
            self._flush()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Encrypt and send several parts."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """Return False: few clients go on sending after close_notify."""
        return False

    def get_write_buffer_size(self) -> int:
        """Return the encrypted bytes that wait to be sent."""
        return 0 if self._tcp is None else self._tcp.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the limits at which ``pause_writing`` and ``resume_writing`` are called, low and high."""
        return (0, 0) if self._tcp is None else self._tcp.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set these limits."""
        if self._tcp is not None:
            self._tcp.set_write_buffer_limits(high, low)


def _whole_records(received: bytearray) -> int:
    """Return the size of the complete records at the beginning (RFC 8446, 5.1)."""
    end = 0
    while len(received) >= end + _RECORD_HEADER_BYTES:
        size = int.from_bytes(received[end + 3 : end + _RECORD_HEADER_BYTES], "big")
        if size > _MAX_RECORD_BYTES:
            return len(received)  # OpenSSL refuses it
        if len(received) < end + _RECORD_HEADER_BYTES + size:
            break
        end += _RECORD_HEADER_BYTES + size
    return end


def _explained(error: BaseException) -> tuple[str, str]:
    """Return why a handshake failed: the kind, and words for the log."""
    if not isinstance(error, ssl.SSLError):
        return INTERNAL, str(error) or type(error).__name__
    name = error.reason or ""
    if "CERTIFICATE" in name and "ALERT" not in name:
        detail = getattr(error, "verify_message", None) or name.replace("_", " ").lower()
        return CLIENT_CERTIFICATE, str(detail)
    words = name.replace("_", " ").lower()
    if "ALERT" in name and any(part in name for part in ("UNKNOWN_CA", "CERTIFICATE")):
        return NOT_TRUSTED, f"the client does not accept this server's certificate: {words}"
    return PROTOCOL, words or "no TLS"
