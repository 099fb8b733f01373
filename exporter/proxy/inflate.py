"""Inflating a copy of a compressed reply, for watching only; what the client gets stays as it is."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MOST_AT_ONCE = 8 << 20
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
        inflated = self._inflate(piece)
        while self._inflater.eof and (rest := self._inflater.unused_data):
            self._inflater = zlib.decompressobj(_ANY_HEADER)
            inflated += self._inflate(rest)
        if len(inflated) > _MOST_AT_ONCE or self._inflater.unconsumed_tail:
            raise CannotInflate("too large")
        return inflated

    def _inflate(self, piece: bytes) -> bytes:
        try:
            return self._inflater.decompress(piece, _MOST_AT_ONCE)
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
