"""Settings of the C library's memory allocator."""

from __future__ import annotations

import contextlib
import ctypes
import sys

_M_MMAP_THRESHOLD = -3  # malloc.h of glibc
_LARGE_BYTES = 1 << 17


def return_large_blocks() -> None:
    """Make glibc return each large block to the kernel when it is freed.

    By default its threshold for mmap rises with the largest freed block, up to 32 MB. Pages of a few hundred kB are
    then allocated from the heap, which cannot shrink below a small block above them: 140 MB after 400 scrapers that did
    not read, 65 MB with a fixed threshold.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):  # musl has no mallopt
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
