"""Subscribers of the live feed: each message is encoded and framed once, and sent to all without waiting for any."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

log = logging.getLogger(__name__)

Framing = Callable[[bytes], bytes]
"""How a message is put on the wire."""

_MISSES = 3
_SEND_BUFFER_BYTES = 1 << 15
_SHORT, _MEDIUM = 126, 1 << 16
_TEXT_FRAME, _CLOSE_FRAME = 0x81, b"\x88\x02\x03\xe9"  # 1001: going away


def websocket_frame(message: bytes) -> bytes:
    """Return a message as an unmasked text frame (RFC 6455, section 5.2)."""
    size = len(message)
    if size < _SHORT:
        return bytes((_TEXT_FRAME, size)) + message
    if size < _MEDIUM:
        return bytes((_TEXT_FRAME, 126)) + size.to_bytes(2, "big") + message
    return bytes((_TEXT_FRAME, 127)) + size.to_bytes(8, "big") + message


def event(message: bytes) -> bytes:
    """Return a message of one line as a server-sent event."""
    return b"event: message\ndata: " + message + b"\n\n"


def chunked_event(message: bytes) -> bytes:
    """Return the same as a chunk of an HTTP/1.1 reply."""
    data = event(message)
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


class Subscriber:
    """One connection that messages are written to; used on the event loop only."""

    def __init__(self, transport: asyncio.Transport, framing: Framing) -> None:
        """Take over a connection whose reply has begun."""
        self.framing = framing
        self.gone = asyncio.Event()
        """Set once it was dropped."""
        self._transport = transport
        self._misses = 0
        bare = transport.get_extra_info("socket")
        if bare is not None:  # what a viewer that does not read makes the kernel hold
            bare.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)

    def offer(self, frame: bytes) -> None:
        """Write a frame, or pass this viewer over while an earlier one has not left; drop it when that goes on."""
        if self._transport.is_closing():
            self.gone.set()
        elif not self._transport.get_write_buffer_size():
            self._misses = 0
            self._transport.write(frame)
        else:
            self._misses += 1
            if self._misses >= _MISSES:
                log.debug("a viewer that does not keep up was dropped")
                self.drop()

    def drop(self) -> None:
        """Break the connection."""
        self._transport.abort()
        self.gone.set()

    def end(self) -> None:
        """Send a close frame, without waiting for the answer."""
        if self.framing is websocket_frame and not self._transport.is_closing():
            self._transport.write(_CLOSE_FRAME)
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()
        self.gone.set()


class Subscribers:
    """All viewers."""

    def __init__(self) -> None:
        self._viewers: set[Subscriber] = set()
        self._latest: bytes | None = None

    def __len__(self) -> int:
        return len(self._viewers)

    def add(self, viewer: Subscriber) -> None:
        """Send the newest message to a subscriber, and from now on each new one."""
        self._viewers.add(viewer)
        if self._latest is not None:
            viewer.offer(viewer.framing(self._latest))

    def remove(self, viewer: Subscriber) -> None:
        """Remove a subscriber."""
        self._viewers.discard(viewer)

    def publish(self, message: bytes | None) -> None:
        """Hand a message to everybody; None: nothing is known any more."""
        self._latest = message
        if message is None:
            return
        frames: dict[Framing, bytes] = {}
        for viewer in self._viewers:
            frame = frames.get(viewer.framing)
            if frame is None:
                frame = frames[viewer.framing] = viewer.framing(message)
            viewer.offer(frame)

    def end(self) -> None:
        """End every connection."""
        for viewer in self._viewers:
            viewer.end()
