"""WebSocket frames, byte by byte (RFC 6455)."""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import TYPE_CHECKING, NamedTuple

from tests.proxy.upstream import head

if TYPE_CHECKING:
    import asyncio

    from tests.proxy.upstream import Call

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
_MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
UPGRADE = ("Connection: Upgrade", "Upgrade: websocket", f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13")


class Frame(NamedTuple):
    """One frame's opcode and payload."""

    opcode: int
    payload: bytes


def accept(call: Call, *fields: str) -> bytes:
    """Return the head that accepts a handshake."""
    digest = hashlib.sha1((call.values("Sec-WebSocket-Key")[0] + _MAGIC).encode()).digest()  # noqa: S324 - RFC 6455
    token = base64.b64encode(digest).decode()
    status = "101 Switching Protocols"
    return head("Connection: Upgrade", "Upgrade: websocket", f"Sec-WebSocket-Accept: {token}", *fields, status=status)


def frame(opcode: int, payload: bytes = b"", *, masked: bool = False) -> bytes:
    """Return a final frame."""
    size = len(payload)
    if size < 126:
        length = bytes([size | masked << 7])
    elif size < 1 << 16:
        length = bytes([126 | masked << 7]) + struct.pack("!H", size)
    else:
        length = bytes([127 | masked << 7]) + struct.pack("!Q", size)
    mask = b"\0\0\0\0" if masked else b""  # a mask of zeros leaves the payload as it is
    return bytes([0x80 | opcode]) + length + mask + payload


def close(code: int, reason: bytes = b"", *, masked: bool = False) -> bytes:
    """Return a close frame."""
    return frame(CLOSE, struct.pack("!H", code) + reason, masked=masked)


async def read_frame(reader: asyncio.StreamReader) -> Frame:
    """Wait for a frame."""
    first, second = await reader.readexactly(2)
    assert first & 0xF0 == 0x80, "final and no extension"
    size = second & 0x7F
    if size == 126:
        (size,) = struct.unpack("!H", await reader.readexactly(2))
    elif size == 127:
        (size,) = struct.unpack("!Q", await reader.readexactly(8))
    mask = await reader.readexactly(4) if second & 0x80 else b"\0\0\0\0"
    payload = await reader.readexactly(size)
    whole = int.from_bytes((mask * (size // 4 + 1))[:size]) ^ int.from_bytes(payload)
    return Frame(first & 0x0F, whole.to_bytes(size))
