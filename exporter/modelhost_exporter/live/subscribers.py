"""Subscribers of the live feed: each message is framed once and sent to all, without waiting for any of them."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

log = logging.getLogger(__name__)

Framing = Callable[[bytes], bytes]
"""Returns the bytes that carry a message."""

_MAX_MISSES = 3
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
    """Return a server-sent event as a chunk of an HTTP/1.1 response (RFC 9112, section 7.1)."""
    data = event(message)
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


class Subscriber:
    """One connection that messages are written to; used on the event loop only."""

    def __init__(self, transport: asyncio.Transport, framing: Framing) -> None:
        """Use a connection whose response headers were sent."""
        self.framing = framing
        self.gone = asyncio.Event()
        """Set when the connection is closed."""
        self._transport = transport
        self._misses = 0
        bare = transport.get_extra_info("socket")
        if bare is not None:  # bounds what the kernel buffers for a client that does not read
            bare.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)

    def offer(self, frame: bytes) -> None:
        """Write a frame, or skip it while an earlier one is still buffered; drop the subscriber after three skips."""
        if self._transport.is_closing():
            self.gone.set()
        elif not self._transport.get_write_buffer_size():
            self._misses = 0
            self._transport.write(frame)
        else:
            self._misses += 1
            if self._misses >= _MAX_MISSES:
                log.debug("dropped a subscriber that does not keep up")
                self.drop()

    def drop(self) -> None:
        """Abort the connection."""
        self._transport.abort()
        self.gone.set()

    def end(self) -> None:
        """Close the connection, a WebSocket with a close frame; does not wait for the client."""
        if self.framing is websocket_frame and not self._transport.is_closing():
            self._transport.write(_CLOSE_FRAME)
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()
        self.gone.set()


class Subscribers:
    """All subscribers, and the newest message."""

    def __init__(self) -> None:
        self._subscribers: set[Subscriber] = set()
        self._latest: bytes | None = None

    def __len__(self) -> int:
        return len(self._subscribers)

    def add(self, subscriber: Subscriber) -> None:
        """Send the newest message to a subscriber, and each later one."""
        self._subscribers.add(subscriber)
        if self._latest is not None:
            subscriber.offer(subscriber.framing(self._latest))

    def remove(self, subscriber: Subscriber) -> None:
        """Remove a subscriber."""
        self._subscribers.discard(subscriber)

    def forget(self) -> None:
        """Drop the newest message, which new subscribers would be sent."""
        self._latest = None

    def publish(self, message: bytes) -> None:
        """Send a message to all subscribers."""
        self._latest = message
        frames: dict[Framing, bytes] = {}
        for subscriber in self._subscribers:
            frame = frames.get(subscriber.framing)
            if frame is None:
                frame = frames[subscriber.framing] = subscriber.framing(message)
            subscriber.offer(frame)

    def end(self) -> None:
        """Close all connections."""
        for subscriber in self._subscribers:
            subscriber.end()
