"""Mounted file systems from /proc/self/mounts."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from modelhost_exporter.linux.kernel_files import each_line, read

_ESCAPED = re.compile(r"\\([0-7]{3})")
_ROOT_ALIASES = ("/dev/root", "rootfs")


class Mount(NamedTuple):
    """One mounted file system, under psutil's names."""

    device: str
    mountpoint: str
    fstype: str
    opts: str


class Mounts:
    """The mounts of this process.

    Reading them waits for a kernel lock that a mount in progress holds, and calls file systems for their options.
    psutil (getmntent) holds the interpreter meanwhile; reading a file does not.
    """

    def __init__(self, procfs: Path, sysfs: Path) -> None:
        self._mounts = procfs / "self/mounts"
        self._devices = sysfs / "dev/block"

    def disk_partitions(self, *, all: bool) -> list[Mount]:  # noqa: A002 - psutil's name
        """Return every mount, in the order of mounting."""
        del all
        mounts = each_line(read(self._mounts), _parse_line, "self/mounts")
        return [self._with_real_device(mount) for mount in mounts]

    def _with_real_device(self, mount: Mount) -> Mount:
        """Return the mount with the real name of the root device, which some kernels name /dev/root."""
        if mount.device not in _ROOT_ALIASES:
            return mount._replace(device="" if mount.device == "none" else mount.device)
        try:
            number = Path("/").stat().st_dev
            link = self._devices / f"{os.major(number)}:{os.minor(number)}"
            device = Path("/dev", link.readlink().name)
            return mount._replace(device=str(device)) if device.exists() else mount
        except OSError:
            return mount


def _parse_line(line: str) -> Mount:
    fields = [_ESCAPED.sub(lambda octal: chr(int(octal[1], 8)), field) for field in line.split(" ")]
    return Mount(fields[0], fields[1], fields[2], fields[3])
