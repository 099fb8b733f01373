"""Run a program with many mounts of its own: ``python tests/faults/mounts.py FOLDER COUNT PROGRAM ARGUMENT…``.

In a mount namespace that only the program sees, FOLDER/0, FOLDER/1 … become file systems in memory. Needs Linux and
root; exits with 77 without them.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

CANNOT = 77

# linux/sched.h, linux/mount.h
_CLONE_NEWNS = 0x20000
_MS_REC_PRIVATE = 0x4000 | 0x40000


def main(folder: str, count: str, *program: str) -> None:
    """Mount, and become the program."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        _check(libc.unshare(_CLONE_NEWNS))
        _check(libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None))
        for number in range(int(count)):
            path = Path(folder, str(number))
            path.mkdir()
            _check(libc.mount(b"slow:/export", os.fsencode(path), b"tmpfs", 0, b"size=1m"))
    except OSError as error:
        print(f"cannot mount: {error}", file=sys.stderr)  # noqa: T201 - for whoever started it
        sys.exit(CANNOT)
    os.execv(program[0], program)  # noqa: S606 - the point of it


def _check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    main(*sys.argv[1:])
