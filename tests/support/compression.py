"""Data as servers compress it, by Content-Encoding; without brotli or zstd where those are not installed."""

from __future__ import annotations

import gzip
import importlib
import os
import sys
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PACK", "blocks", "brotli", "frame", "zstd"]


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        if os.environ.get("CI"):
            raise
        return None


brotli = _library("brotli")
zstd = _library("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")


def frame(data: bytes, **parameters: int) -> bytes:
    """Return data as one frame of zstd that does not contain how long it is, as of a stream."""
    options = {getattr(zstd.CompressionParameter, name): value for name, value in parameters.items()}
    packer = zstd.ZstdCompressor(options=options)
    return bytes(packer.compress(data) + packer.flush())


def blocks(data: bytes, size: int) -> bytes:
    """Return data as a stream of brotli with a block for each piece, as of a server that sends events."""
    packer = brotli.Compressor()
    pieces = (data[start : start + size] for start in range(0, len(data), size))
    return b"".join(packer.process(piece) + packer.flush() for piece in pieces) + bytes(packer.finish())


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "deflate": zlib.compress,
}
if brotli and zstd:
    PACK["br"] = lambda data: bytes(brotli.compress(data, quality=5))
    PACK["zstd"] = frame
