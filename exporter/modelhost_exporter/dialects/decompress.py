"""Decompress a copy of a response in bounded memory; the client receives the compressed bytes."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_BYTES_AT_ONCE = 2 << 20
"""Limit on what one piece may decompress to; it is parsed on the event loop."""
_SLICE_BYTES = 4096  # zlib copies all that follows the end of a member, so it receives little at a time
_ANY_HEADER = zlib.MAX_WBITS | 32
_HEADER_BYTES = 2


class CannotDecompress(Exception):
    """The encoding is not supported, the bytes are invalid, or they decompress to too much."""


class Decompress(Protocol):
    """A decompressor for pieces of a body, split anywhere; raises CannotDecompress."""

    def __call__(self, piece: bytes) -> bytes:
        """Decompress the next piece."""
        ...


class _Gzip:
    """gzip with one member or several, and deflate in its zlib form."""

    def __init__(self) -> None:
        self._decompressor = zlib.decompressobj(_ANY_HEADER)

    def __call__(self, piece: bytes) -> bytes:
        output = bytearray()
        for start in range(0, len(piece), _SLICE_BYTES):
            rest = piece[start : start + _SLICE_BYTES]
            while rest:
                if self._decompressor.eof:
                    self._decompressor = zlib.decompressobj(_ANY_HEADER)
                output += self._decompress(rest, MAX_BYTES_AT_ONCE + 1 - len(output))
                if len(output) > MAX_BYTES_AT_ONCE:
                    raise CannotDecompress("too large")
                rest = self._decompressor.unused_data
        return bytes(output)

    def _decompress(self, piece: bytes, limit: int) -> bytes:
        try:
            return self._decompressor.decompress(piece, limit)
        except zlib.error as error:
            raise CannotDecompress(str(error)) from error


class _Deflate(_Gzip):
    """deflate: in its zlib form, or raw as some servers send it; two bytes decide (RFC 1950, section 2.2)."""

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
                self._decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
        return super().__call__(piece)


def _identity(piece: bytes) -> bytes:
    return piece


_DECOMPRESSORS: Mapping[str, Callable[[], Decompress]] = {
    "": lambda: _identity,
    "identity": lambda: _identity,
    "gzip": _Gzip,
    "x-gzip": _Gzip,
    "deflate": _Deflate,
}


def decompressor(content_encoding: str) -> Decompress:
    """Return a function for one body; CannotDecompress for an encoding that is not supported."""
    make = _DECOMPRESSORS.get(content_encoding.strip().lower())
    if make is None:
        raise CannotDecompress(content_encoding)
    return make()
