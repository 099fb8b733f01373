"""Inflating a copy of a compressed reply, for watching only; what the client gets stays as it is."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MOST_AT_ONCE = 8 << 20
_ANY_HEADER = zlib.MAX_WBITS | 32


class CannotInflate(Exception):
    """The encoding is not known here, the bytes are broken, or they inflate to too much."""


class Inflate(Protocol):
    """Turns pieces of a body, split anywhere, into what they stand for; raises CannotInflate."""

    def __call__(self, piece: bytes) -> bytes:
        """Inflate the next piece."""
        ...


class _Gzip:
    """gzip, and deflate in its zlib form or raw."""

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(_ANY_HEADER)
        self._first = True

    def __call__(self, piece: bytes) -> bytes:
        try:
            inflated = self._inflater.decompress(piece, _MOST_AT_ONCE)
        except zlib.error as error:
            if not self._first:
                raise CannotInflate(str(error)) from error
            inflated = self._raw(piece)
        self._first = False
        if self._inflater.unconsumed_tail:
            raise CannotInflate("too large")
        return inflated

    def _raw(self, piece: bytes) -> bytes:
        """Try again without a header: some servers send deflate so."""
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            return self._inflater.decompress(piece, _MOST_AT_ONCE)
        except zlib.error as error:
            raise CannotInflate(str(error)) from error


def _identity(piece: bytes) -> bytes:
    return piece


_INFLATERS: Mapping[str, Callable[[], Inflate]] = {
    "": lambda: _identity,
    "identity": lambda: _identity,
    "gzip": _Gzip,
    "x-gzip": _Gzip,
    "deflate": _Gzip,
}


def inflater(content_encoding: str) -> Inflate:
    """Return a fresh function for one body; CannotInflate for an encoding that is not known here."""
    make = _INFLATERS.get(content_encoding.strip().lower())
    if make is None:
        raise CannotInflate(content_encoding)
    return make()
