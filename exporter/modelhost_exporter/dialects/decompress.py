"""Decompress a copy of a response in bounded memory; the client receives the compressed bytes."""

from __future__ import annotations

import importlib
import sys
import zlib
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_BYTES_AT_ONCE = 2 << 20
"""Limit on what one piece may decompress to; it is parsed on the event loop."""
_SLICE_BYTES = 4096  # zlib copies all that follows the end of a member, so it receives little at a time
_ANY_HEADER = zlib.MAX_WBITS | 32
_HEADER_BYTES = 2
# imported for the first response that is compressed so
_BROTLI = "brotli" if sys.implementation.name == "cpython" else "brotlicffi"
_ZSTD = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
_MAX_ZSTD_WINDOW = 23
"""Logarithm of the memory for what is referred to: 8 MiB, the limit for HTTP (RFC 9659)."""
_MAX_ZSTD_FRAMES = 128
"""Frames in one piece: each takes 35 µs, however short it is."""


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


class _Brotli:
    """Brotli (RFC 7932), which has no check sum: a truncated body is found by what it contains."""

    def __init__(self) -> None:
        self._library = importlib.import_module(_BROTLI)
        self._decompressor = self._library.Decompressor()

    def __call__(self, piece: bytes) -> bytes:
        output = bytearray()
        try:
            while piece or not self._decompressor.can_accept_more_data():
                output += self._decompressor.process(piece, output_buffer_limit=MAX_BYTES_AT_ONCE + 1 - len(output))
                if len(output) > MAX_BYTES_AT_ONCE:
                    raise CannotDecompress("too large")
                piece = b""
        except self._library.error as error:
            raise CannotDecompress(str(error)) from error
        return bytes(output)


class _Zstd:
    """Zstandard (RFC 8878), with one frame or several."""

    def __init__(self) -> None:
        self._library = importlib.import_module(_ZSTD)
        self._options = {self._library.DecompressionParameter.window_log_max: _MAX_ZSTD_WINDOW}
        self._decompressor = self._create()

    def _create(self) -> Any:
        return self._library.ZstdDecompressor(options=self._options)

    def __call__(self, piece: bytes) -> bytes:
        output = bytearray()
        frames = 0
        while piece or not self._decompressor.needs_input:
            if self._decompressor.eof:
                if not piece:
                    break
                self._decompressor = self._create()
                frames += 1
            output += self._decompress(piece, MAX_BYTES_AT_ONCE + 1 - len(output))
            if len(output) > MAX_BYTES_AT_ONCE or frames > _MAX_ZSTD_FRAMES:
                raise CannotDecompress("too large")
            piece = self._decompressor.unused_data
        return bytes(output)

    def _decompress(self, piece: bytes, limit: int) -> bytes:
        try:
            output: bytes = self._decompressor.decompress(piece, limit)
        except self._library.ZstdError as error:
            raise CannotDecompress(str(error)) from error
        return output


def _identity(piece: bytes) -> bytes:
    return piece


_DECOMPRESSORS: Mapping[str, Callable[[], Decompress]] = {
    "": lambda: _identity,
    "identity": lambda: _identity,
    "gzip": _Gzip,
    "x-gzip": _Gzip,
    "deflate": _Deflate,
    "br": _Brotli,
    "zstd": _Zstd,
}


def decompressor(content_encoding: str) -> Decompress:
    """Return a function for one body; CannotDecompress for an encoding that is not supported."""
    make = _DECOMPRESSORS.get(content_encoding.strip().lower())
    if make is None:
        raise CannotDecompress(content_encoding)
    try:
        return make()
    except (ImportError, AttributeError, OSError) as error:  # it is missing, of another project, or cannot be loaded
        raise CannotDecompress(str(error)) from error
