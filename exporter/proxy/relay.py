"""A reply passed on as it came: no header field is added to the server's."""

from __future__ import annotations

import re
import socket
import struct
from typing import TYPE_CHECKING

from aiohttp import hdrs, web

from exporter.proxy.headers import end_to_end

if TYPE_CHECKING:
    import asyncio

    from aiohttp import ClientResponse

# what this hop says for itself; a Date is added where there is none (RFC 9110, section 6.6.1)
_OF_THIS_HOP = (hdrs.TRANSFER_ENCODING, hdrs.CONNECTION, hdrs.DATE)
_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_NO_CONTENT = 204


class Relay(web.StreamResponse):
    """The client's side of a reply; aiohttp frames it as this hop needs."""

    def __init__(self, upstream: ClientResponse) -> None:
        """Prepare; ValueError when the reply's head holds control characters, which cannot be passed on."""
        self._sent = end_to_end(upstream.headers)
        reason = upstream.reason or ""
        text = reason.join(f"{name}{value}" for name, value in self._sent.items()) + reason
        if _FORBIDDEN.search(text):
            raise ValueError("control characters in the head of a reply")
        self._plain = text.isascii()
        super().__init__(status=upstream.status, reason=reason, headers=self._sent)
        # a head whose body is here already is sent together with it
        self._send_headers_immediately = not upstream.content.is_eof()

    def forget_length(self) -> None:
        """Send the body chunked: it will not be as long as the server's."""
        self._sent.popall(hdrs.CONTENT_LENGTH, None)
        self._headers.popall(hdrs.CONTENT_LENGTH, None)

    async def _write_headers(self) -> None:
        """Write the server's fields and those of this hop, but nothing that aiohttp would like to add."""
        fields = self._sent
        for name in _OF_THIS_HOP:
            if name in self._headers and name not in fields:
                fields[name] = self._headers[name]
        if self._status == _NO_CONTENT:
            fields.popall(hdrs.CONTENT_LENGTH, None)
        self._headers = fields
        if self._plain:
            await super()._write_headers()
        else:
            self._write_bytes()

    def _write_bytes(self) -> None:
        """Write a head with bytes of any kind as they came; aiohttp would drop those that are not UTF-8."""
        request = self._req
        if request is None or request.transport is None:
            raise ConnectionResetError("the client is gone")
        lines = [f"HTTP/{request.version.major}.{request.version.minor} {self._status} {self._reason}"]
        lines += [f"{name}: {value}" for name, value in self._headers.items()]
        request.transport.write("\r\n".join((*lines, "", "")).encode("utf-8", "surrogateescape"))


def reset(transport: asyncio.Transport) -> None:
    """Break a connection with a RST."""
    # neither asyncio nor uvloop hands out the socket itself
    sock = socket.socket(fileno=transport.get_extra_info("socket").fileno())
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    finally:
        sock.detach()
    transport.abort()
