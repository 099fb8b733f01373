"""A mount namespace for one process: only that process and its children see what is mounted in it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# linux/sched.h, linux/mount.h
_CLONE_NEWNS = 0x20000
_MS_REC_PRIVATE = 0x4000 | 0x40000

CANNOT_MOUNT = "cannot mount"
"""Begins the line on standard error of a program that ends because it may not mount."""
_EXIT_CODE = 77


class MountNamespace:
    """A new mount namespace of this process; its mounts do not propagate. OSError without Linux and root."""

    def __init__(self) -> None:
        self._libc: Any = ctypes.CDLL(None, use_errno=True)
        self._check(self._libc.unshare(_CLONE_NEWNS))
        self._check(self._libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None))

    def mount(self, source: str, folder: Path, fstype: str, options: str) -> None:
        """Mount a file system at ``folder``; OSError when the kernel refuses."""
        self._check(self._libc.mount(source.encode(), bytes(folder), fstype.encode(), 0, options.encode()))

    @staticmethod
    def _check(result: int) -> None:
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@contextlib.contextmanager
def mount_namespace() -> Iterator[MountNamespace]:
    """Move this process into a new mount namespace; an OSError in the block ends the process with a message."""
    try:
        yield MountNamespace()
    except OSError as error:
        print(f"{CANNOT_MOUNT}: {error}", file=sys.stderr)  # noqa: T201 - read by the test that started the program
        sys.exit(_EXIT_CODE)
