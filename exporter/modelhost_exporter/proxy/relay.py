"""A reply passed on as it came: no header field is added to the server's but those of this hop."""

from __future__ import annotations

import re
import socket
import struct
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from time import time
from typing import TYPE_CHECKING

from aiohttp import HttpVersion11, hdrs

from modelhost_exporter.proxy.headers import CONTENT_LENGTH, Field, for_client, written

if TYPE_CHECKING:
    import asyncio

    from aiohttp import web
    from aiohttp.http import RawResponseMessage

_FORBIDDEN = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_NO_CONTENT, _NOT_MODIFIED = 204, 304
_CHUNKED = (b"Transfer-Encoding", b"chunked")
_CLOSE, _KEEP_ALIVE = (b"Connection", b"close"), (b"Connection", b"keep-alive")
_LAST_CHUNK = b"0\r\n\r\n"


class Outgoing:
    """A reply on its way to the client, framed as this hop needs; raises ConnectionError when the client is gone.

    The server's loop is told that it was sent: it takes what a handler returns for a ``web.StreamResponse``.
    """

    def __init__(
        self, request: web.BaseRequest, status: int, reason: bytes, fields: list[Field], *, last: bool = False
    ) -> None:
        """Frame a reply, whose fields of this hop were taken out; ``last`` ends the client's connection.

        ValueError when the fields hold what they must not.
        """
        self._request = request
        self.keep_alive = request.keep_alive and not last
        """The client's connection goes on afterwards."""
        self._chunked = False
        http11 = request.version >= HttpVersion11
        self._bodiless = request.method == hdrs.METH_HEAD or status in (_NO_CONTENT, _NOT_MODIFIED)
        names = {name.lower() for name, _ in fields}
        if b" " in b"".join(names):  # "Content-Length : 3" is a length for some clients
            raise ValueError("a space in the name of a header")
        if status == _NO_CONTENT and CONTENT_LENGTH in names:
            fields = [field for field in fields if field[0].lower() != CONTENT_LENGTH]
        if not self._bodiless and CONTENT_LENGTH not in names:
            self._chunked = http11
            self.keep_alive = self.keep_alive and http11
        hop = [_CHUNKED] if self._chunked else []
        if self.keep_alive != http11:
            hop.append(_KEEP_ALIVE if self.keep_alive else _CLOSE)
        if b"date" not in names:  # RFC 9110, section 6.6.1
            hop.append((b"Date", _date(int(time()))))
        line = b"HTTP/1.%d %d %b" % (http11, status, reason)
        if _FORBIDDEN.search(b"\t".join((line, *map(b"".join, fields)))):
            raise ValueError("control characters in the headers of a response")
        self._head = written(line, (*fields, *hop))

    def start(self) -> None:
        """Send the head, for a body that is still to come."""
        head, self._head = self._head, b""
        self._write(head)

    def write(self, data: bytes) -> None:
        """Send a piece of the body, and the head where it was not sent."""
        head, self._head = self._head, b""
        if data and not self._bodiless:
            head += b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data
        if head:
            self._write(head)

    def end(self, data: bytes = b"") -> None:
        """Send the last piece, which may be empty."""
        head, self._head = self._head, b""
        if self._chunked:
            head += b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else _LAST_CHUNK
        elif not self._bodiless:
            head += data
        if head:
            self._write(head)

    @property
    def full(self) -> bool:
        """Whether to wait for room() before more is sent."""
        return self._request.protocol.writing_paused

    async def room(self) -> None:
        """Wait until the client has taken enough."""
        await self._request.writer.drain()

    def _write(self, data: bytes) -> None:
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has disconnected")
        transport.write(data)
        self._request.writer.output_size += len(data)

    async def prepare(self, _request: web.BaseRequest) -> None:
        """Do nothing: it was sent."""

    async def write_eof(self) -> None:
        """Do nothing: it was ended."""


class Relay(Outgoing):
    """The server's reply."""

    def __init__(self, request: web.BaseRequest, reply: RawResponseMessage, *, same_length: bool = True) -> None:
        """Prepare; ValueError when the reply's head cannot be passed on; its length may not be what is sent."""
        coding = reply.headers.getall(hdrs.TRANSFER_ENCODING, None)
        if coding is not None and [each.lower() for each in coding] != ["chunked"]:
            raise ValueError("a body whose Transfer-Encoding was not decoded")
        fields = for_client(reply.raw_headers, reply.headers)
        if not same_length or reply.chunked:
            fields = [field for field in fields if field[0].lower() != CONTENT_LENGTH]
        super().__init__(request, reply.code, (reply.reason or "").encode("utf-8", "surrogateescape"), fields)


def plain_reply(
    request: web.BaseRequest, status: int, body: bytes, content_type: str, *, last: bool = False
) -> Outgoing:
    """Return the head of a reply of the proxy's own; the body is for end(). ``last`` ends the connection."""
    fields = [(b"Content-Type", content_type.encode()), (b"Content-Length", b"%d" % len(body))]
    return Outgoing(request, status, HTTPStatus(status).phrase.encode(), fields, last=last)


@lru_cache(maxsize=1)
def _date(seconds: int) -> bytes:
    return formatdate(seconds, usegmt=True).encode()


def reset(transport: asyncio.Transport) -> None:
    """Break a connection with a RST."""
    # neither asyncio nor uvloop hands out the socket itself
    sock = socket.socket(fileno=transport.get_extra_info("socket").fileno())
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    finally:
        sock.detach()
    transport.abort()
