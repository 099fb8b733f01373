"""Run a program with many mounts of its own: ``python many_mounts.py FOLDER COUNT PROGRAM ARGUMENT…``.

FOLDER/0, FOLDER/1 … become file systems in memory.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.faults.mount_namespace import mount_namespace


def main(folder: str, count: str, *program: str) -> None:
    """Mount the file systems and replace this process by the program."""
    with mount_namespace() as namespace:
        for number in range(int(count)):
            path = Path(folder, str(number))
            path.mkdir()
            namespace.mount("slow:/export", path, "tmpfs", "size=1m")
    os.execv(program[0], program)  # noqa: S606 - as env(1) does


if __name__ == "__main__":
    main(*sys.argv[1:])
