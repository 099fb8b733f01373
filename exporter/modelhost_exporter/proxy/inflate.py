"""Inflating a copy of a compressed reply, for watching only; what the client gets stays as it is."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_BYTES_AT_ONCE = 2 << 20
"""What one piece may inflate to; its frames are parsed on the event loop before anything else goes on."""
_SLICE_BYTES = 4096  # zlib copies all that follows the end of a member, so it is given little at a time
_ANY_HEADER = zlib.MAX_WBITS | 32
_HEADER_BYTES = 2


class CannotInflate(Exception):
    """The encoding is not known here, the bytes are broken, or they inflate to too much."""


class Inflate(Protocol):
    """Turns pieces of a body, split anywhere, into what they stand for; raises CannotInflate."""

    def __call__(self, piece: bytes) -> bytes:
        """Inflate the next piece."""
        ...


class _Gzip:
    """gzip, of one member or several, and deflate in its zlib form or raw."""

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(_ANY_HEADER)

    def __call__(self, piece: bytes) -> bytes:
        inflated = bytearray()
        for start in range(0, len(piece), _SLICE_BYTES):
            rest = piece[start : start + _SLICE_BYTES]
            while rest:
                if self._inflater.eof:
                    self._inflater = zlib.decompressobj(_ANY_HEADER)
                inflated += self._inflate(rest, MAX_BYTES_AT_ONCE + 1 - len(inflated))
                if len(inflated) > MAX_BYTES_AT_ONCE:
                    raise CannotInflate("too large")
                rest = self._inflater.unused_data
        return bytes(inflated)

    def _inflate(self, piece: bytes, limit: int) -> bytes:
        try:
            return self._inflater.decompress(piece, limit)
        except zlib.error as error:
            raise CannotInflate(str(error)) from error


class _Deflate(_Gzip):
    """deflate: in its zlib form, or raw as some servers send it; two bytes tell (RFC 1950, section 2.2)."""

    def __init__(self) -> None:
        super().__init__()
        self._start: bytes | None = b""

    def __call__(self, piece: bytes) -> bytes:
        if self._start is not None:
            piece = self._start + piece
            if len(piece) < _HEADER_BYTES:
                self._start = piece
                return b""
            self._start = None
            if piece[0] & 0x0F != zlib.DEFLATED or int.from_bytes(piece[:_HEADER_BYTES]) % 31:
                self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        return super().__call__(piece)


def _identity(piece: bytes) -> bytes:
    return piece


_INFLATERS: Mapping[str, Callable[[], Inflate]] = {
    "": lambda: _identity,
    "identity": lambda: _identity,
    "gzip": _Gzip,
    "x-gzip": _Gzip,
    "deflate": _Deflate,
}


def inflater(content_encoding: str) -> Inflate:
    """Return a fresh function for one body; CannotInflate for an encoding that is not known here."""
    make = _INFLATERS.get(content_encoding.strip().lower())
    if make is None:
        raise CannotInflate(content_encoding)
    return make()
