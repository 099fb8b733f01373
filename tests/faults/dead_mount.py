"""Run a program beside a dead network mount: ``python dead_mount.py FOLDER FIFO PROGRAM ARGUMENT…``.

FOLDER becomes a FUSE file system whose server never replies: calls on it hang in the kernel, as with a dead NFS
server. Opening FIFO for writing ends the server for good, and the calls that hang fail.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

from tests.faults.mount_namespace import mount_namespace

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(folder: str, fifo: str, *program: str) -> None:
    """Mount the file system and replace this process by the program."""
    with mount_namespace() as namespace:
        server = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={server},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
        namespace.mount("dead:/export", Path(folder), "fuse.nfs4", options)
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.open(fifo, os.O_RDONLY)
        os._exit(0)
    os.close(server)  # the child holds it
    os.execv(program[0], program)  # noqa: S606 - as env(1) does


if __name__ == "__main__":
    main(*sys.argv[1:])
