"""Read a file of the operator: bounded, and never waiting for ever."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_PIPE_SECONDS = 10.0
_PIPE_PAUSE_SECONDS = 0.01


def read(file: Path, max_bytes: int) -> bytes:
    """Return up to ``max_bytes + 1`` bytes of a file; raises TimeoutError for a pipe without a writer.

    A pipe (``--config.file <(…)``) has no writer when a reload opens it again: a blocking read would never return.
    """
    content = bytearray()
    give_up = time.monotonic() + _PIPE_SECONDS
    with open(file, "rb", buffering=0, opener=_open_at_once) as opened:
        is_pipe = stat.S_ISFIFO(os.fstat(opened.fileno()).st_mode)
        while len(content) <= max_bytes:
            block = opened.read(max_bytes + 1 - len(content))
            if block:
                content += block
            elif block is not None and (content or not is_pipe):
                break
            elif time.monotonic() > give_up:
                raise TimeoutError(f"nothing was written to this pipe for {_PIPE_SECONDS:g} s: use a file")
            else:
                time.sleep(_PIPE_PAUSE_SECONDS)
    return bytes(content)


def _open_at_once(path: str, flags: int) -> int:
    """Open a file without blocking, also a pipe that has no writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
