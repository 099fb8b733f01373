"""Mount a real disk and print what the collector measures of it: ``python disk_of_a_host.py FOLDER IMAGE``.

This process is process 1 of its own namespaces (``unshare --pid --mount-proc --fork``) and plays the host, whose mounts
its children see. Each line is a situation and ``filesystem_readonly``, once read by the host itself, once by a service
and once by a container below ``FOLDER/rootfs``, which have a mount namespace with read-only mounts of their own.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from modelhost_exporter.collector import CollectorContext, Paths
from modelhost_exporter.collectors.filesystem import FilesystemOptions, create
from tests.faults.mount_namespace import CANNOT_MOUNT, mount_namespace
from tests.support.readings import readings

if TYPE_CHECKING:
    from collections.abc import Callable

_SHUTDOWN = 0x8004587D, struct.pack("I", 2)  # EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH
_EXIT_CODE = 77


def mount(*arguments: str | Path) -> None:
    """Call the program of this name."""
    subprocess.run(["mount", *map(str, arguments)], check=True)


def write(*words: str | float, end: str = "\n") -> None:
    """Print words at once, so that a child process does not print them again."""
    print(*words, end=end, flush=True)  # noqa: T201 - read by the test that started the program


def in_child(act: Callable[[], None]) -> None:
    """Do something in a child process, whose namespaces end with it."""
    child = os.fork()
    if child == 0:
        act()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def main(folder: Path, image: Path) -> None:
    """Mount the image and measure it in each situation."""
    disk, rootfs = folder / "disk", folder / "rootfs"
    disk.mkdir()
    rootfs.mkdir()

    def measure(rootfs: str) -> float:
        context = CollectorContext(Paths(rootfs=Path(rootfs)))
        found = readings(create(FilesystemOptions(), context).collect())["filesystem_readonly"]
        return next(value for (_, mountpoint, _), value in found.items() if mountpoint == str(disk))

    def service() -> None:
        with mount_namespace():
            mount("-o", "remount,bind,ro", disk)
        write(measure("/"), end=" ")

    def container() -> None:
        with mount_namespace():
            mount("--rbind", "/", rootfs)
            mount("-o", "remount,bind,ro", f"{rootfs}{disk}")  # as Docker does with every mount below a read-only one
        write(measure(str(rootfs)))

    def report(situation: str) -> None:
        write(situation, measure("/"), end=" ")
        in_child(service)
        in_child(container)

    mount("-o", "loop,errors=remount-ro", image, disk)
    try:
        report("writable")
        mount("-o", "remount,bind,ro", disk)
        report("bind")
        mount("-o", "remount,bind,rw", disk)
        device = next(line.split()[0] for line in Path("/proc/mounts").read_text().splitlines() if str(disk) in line)
        Path("/sys/fs/ext4", Path(device).name, "trigger_fs_error").write_text("test")
        report("error")
    finally:
        subprocess.run(["umount", disk], check=True)
    mount("-o", "loop", image, disk)
    try:
        opened = os.open(disk, os.O_RDONLY)
        fcntl.ioctl(opened, *_SHUTDOWN)
        os.close(opened)
        report("shutdown")
    finally:
        subprocess.run(["umount", disk], check=True)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except (OSError, subprocess.CalledProcessError) as error:
        write(f"{CANNOT_MOUNT}: {error}")
        sys.exit(_EXIT_CODE)
