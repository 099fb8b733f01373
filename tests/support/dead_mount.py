"""Run a program on a machine with a dead network mount: ``python dead_mount.py FOLDER FIFO PROGRAM ARGUMENT…``.

In a mount namespace of its own (only the program sees it) FOLDER becomes a FUSE file system whose server never
answers: whoever asks it for anything hangs in the kernel, as with a dead NFS server. When somebody opens FIFO for
writing the server is gone for good, and the calls that hang fail. Needs Linux and root; exits with 77 without them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

CANNOT = 77

# linux/sched.h, linux/mount.h, linux/prctl.h
_CLONE_NEWNS = 0x20000
_MS_REC_PRIVATE = 0x4000 | 0x40000
_PR_SET_PDEATHSIG = 1


def main(folder: str, fifo: str, *program: str) -> None:
    """Mount, and become the program."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        _check(libc.unshare(_CLONE_NEWNS))
        _check(libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None))
        server = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={server},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
        _check(libc.mount(b"dead:/export", os.fsencode(folder), b"fuse.nfs4", 0, options.encode()))
    except OSError as error:
        print(f"no dead mount: {error}", file=sys.stderr)  # noqa: T201 - for whoever started it
        sys.exit(CANNOT)
    if os.fork() == 0:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.open(fifo, os.O_RDONLY)
        os._exit(0)
    os.close(server)  # the child holds it
    os.execv(program[0], program)  # noqa: S606 - the point of it


def _check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    main(*sys.argv[1:])
