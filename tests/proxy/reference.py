"""Read HTTP with h11, a strict reference, and state what a proxy has to make of each message."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import h11

if TYPE_CHECKING:
    from collections.abc import Iterable

_EMPTY_LINES = re.compile(rb"\A[\r\n]+")
"""The one thing that the proxy accepts and h11 does not: ends of lines before a message (RFC 9112, section 2.2).

llhttp skips them in any form, and nothing of them is forwarded.
"""
_MAX_HEAD_BYTES = 1 << 20
_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection te trailer transfer-encoding upgrade"
    b" proxy-authenticate proxy-authorization".split()
)
"""RFC 9110, section 7.6.1, and two that belong to the connection to a proxy (section 11.7)."""


@dataclass
class Message:
    """A request or response, as far as it was received."""

    start: tuple[bytes, ...]
    """Method and target, or status."""
    version: bytes
    fields: list[tuple[bytes, bytes]]
    """Names as sent, and values."""
    body: bytes = b""
    is_complete: bool = False
    interim: list[Message] = field(default_factory=list)
    """The interim responses before it."""

    def values(self, key: bytes) -> list[bytes]:
        """Return the values of a field, its name in lower case."""
        return [value for name, value in self.fields if name.lower() == key]

    def tokens(self, key: bytes) -> set[bytes]:
        """Return the members of a comma-separated list, in lower case."""
        return {token.strip(b" \t").lower() for value in self.values(key) for token in value.split(b",")}

    @property
    def is_chunked(self) -> bool:
        """Whether its body has no length of its own."""
        return bool(self.values(b"transfer-encoding"))

    @property
    def is_persistent(self) -> bool:
        """Whether another message may follow on its connection (RFC 9112, section 9.3)."""
        tokens = self.tokens(b"connection")
        return b"close" not in tokens and (self.version == b"1.1" or b"keep-alive" in tokens)

    @property
    def is_handshake(self) -> bool:
        """Whether it asks for a WebSocket."""
        is_upgrade = b"upgrade" in self.tokens(b"connection") and b"websocket" in self.tokens(b"upgrade")
        return is_upgrade and self.start[0] == b"GET" and self.version == b"1.1"

    def end_to_end(self, *dropped: bytes) -> list[tuple[bytes, bytes]]:
        """Return the fields that a proxy forwards, without those that it replaces."""
        removed = _HOP_BY_HOP | (self.tokens(b"connection") - {b"content-length"}) | set(dropped)
        return [(name, value) for name, value in self.fields if name.lower() not in removed]


class Reader:
    """Reads messages one after another from the bytes of a connection."""

    def __init__(self, request_methods: Iterable[bytes] | None = None) -> None:
        """Prepare to read requests; with the methods of requests, to read the responses to these."""
        self._methods = None if request_methods is None else iter(request_methods)
        self.messages: list[Message] = []
        """What was received; only the last one may be incomplete."""
        self.error: str | None = None
        """Why the rest is refused."""
        self.rest = b""
        """Bytes after the last message."""
        self._ended = False
        self._connection: h11.Connection | None = None
        self._interim: list[Message] = []

    @property
    def complete(self) -> list[Message]:
        """The messages that were received completely."""
        return [message for message in self.messages if message.is_complete]

    def feed(self, data: bytes) -> None:
        """Read more bytes; b"" for the end of the connection."""
        if self._ended:
            self.rest += data
            return
        if self._connection is None:
            self.rest += data
            self._begin()
        else:
            self._connection.receive_data(data)
        self._read()

    def _begin(self) -> None:
        """Begin with the next message, if there are bytes of it."""
        self.rest = _EMPTY_LINES.sub(b"", self.rest)
        if not self.rest:
            return
        role = h11.SERVER if self._methods is None else h11.CLIENT
        self._connection = h11.Connection(role, max_incomplete_event_size=_MAX_HEAD_BYTES)
        if self._methods is not None:
            method = next(self._methods, None)
            if method is None:
                self._end("a response without a request")
                return
            self._connection.send(h11.Request(method=method, target=b"/", headers=[(b"host", b"a")]))
            self._connection.send(h11.EndOfMessage())
        data, self.rest = self.rest, b""
        self._connection.receive_data(data)

    def _end(self, error: str | None = None) -> None:
        self._ended, self.error, self._connection = True, error, None

    def _read(self) -> None:
        while self._connection is not None:
            try:
                event = self._connection.next_event()
            except h11.RemoteProtocolError as error:
                self._end(str(error))
                return
            if event is h11.NEED_DATA:
                return
            self._on_event(event)

    def _on_event(self, event: object) -> None:
        if isinstance(event, h11.Request):
            fields = event.headers.raw_items()
            self.messages.append(Message((event.method, event.target), event.http_version, fields))
        elif isinstance(event, h11.InformationalResponse):
            self._interim.append(_response(event))
        elif isinstance(event, h11.Response):
            self.messages.append(_response(event))
            self.messages[-1].interim, self._interim = self._interim, []
        elif isinstance(event, h11.Data):
            self.messages[-1].body += event.data
        elif isinstance(event, h11.EndOfMessage):
            self._end_message()
        else:  # the end of the connection, or another protocol
            self._end()

    def _end_message(self) -> None:
        message, connection = self.messages[-1], self._connection
        message.is_complete = True
        assert connection is not None
        self.rest, is_closed = connection.trailing_data
        self._connection = None
        if is_closed or not message.is_persistent:
            self._end()
        else:
            self._begin()


def _response(event: h11.Response | h11.InformationalResponse) -> Message:
    fields = event.headers.raw_items()
    return Message((b"%d" % event.status_code, event.reason), event.http_version, fields)


def read_requests(data: bytes) -> Reader:
    """Return what a server reads of these bytes."""
    reader = Reader()
    reader.feed(data)
    return reader
