"""Mounted file systems from /proc/self/mountinfo (source: Linux Documentation/filesystems/proc.rst, 3.5)."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.collector import Unavailable
from modelhost_exporter.linux.kernel_files import each_line, read

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ESCAPED = re.compile(r"\\([0-7]{3})")
_ROOT_ALIASES = ("/dev/root", "rootfs")
_MAX_REMEMBERED = 4  # texts, which are large where thousands are mounted
_OPTIONAL_FIELDS = 6  # where they begin; "-" ends them
_FAILED = frozenset(("ro", "emergency_ro", "shutdown"))
"""Options of a file system that refuses writes; the last two after an error (ext4 since Linux 6.15, and others)."""


class Mount(NamedTuple):
    """One mounted file system, under psutil's names."""

    device: str
    mountpoint: str
    fstype: str
    opts: str
    """``ro`` or ``rw``, whether the host can write to the file system, and the other options."""


class _Line(NamedTuple):
    """One line of mountinfo."""

    id: str
    """Different from that of every other mount, in other namespaces as well."""
    number: str
    """The device's ``major:minor``."""
    mountpoint: str
    options: list[str]
    fstype: str
    device: str
    super_options: list[str]
    """Those of the file system itself, which all its mounts share."""


class Mounts:
    """The mounts of this process, below ``rootfs`` those of the host.

    A mount's own ``ro`` counts if it is the host's, which process 1 shows: a container or a service with
    ``ProtectSystem=`` sees everything read-only.

    Reading them waits for a kernel lock that a mount in progress holds, and calls file systems for their options.
    psutil (getmntent) holds the interpreter meanwhile; reading a file does not.
    """

    def __init__(self, procfs: Path, sysfs: Path, rootfs: str = "") -> None:
        self._own = procfs / "self/mountinfo"
        self._of_init = procfs / "1/mountinfo"
        self._devices = sysfs / "dev/block"
        self._rootfs = rootfs

    def disk_partitions(self, *, all: bool) -> list[Mount]:  # noqa: A002 - psutil's name
        """Return every mount, in the order of mounting."""
        del all
        lines = _lines(read(self._own), "self/mountinfo")
        on_host = self._options_on_host(lines)
        return [
            Mount(
                self._device(line),
                line.mountpoint,
                line.fstype,
                _effective(on_host.get((line.number, host_name(line.mountpoint, self._rootfs)), []), line),
            )
            for line in lines
        ]

    def _options_on_host(self, own: Sequence[_Line]) -> Mapping[tuple[str, str | None], list[str]]:
        """Return the options of the host's mounts by device and mount point; none where they are hidden."""
        try:
            lines = _lines(read(self._of_init), "1/mountinfo")
        except (OSError, Unavailable):  # hidepid=, ProtectProc=, a security module
            return {}
        if self._rootfs and not {line.id for line in own}.isdisjoint(line.id for line in lines):
            return {}  # process 1 is that of the container
        return {(line.number, line.mountpoint): line.options for line in lines}

    def _device(self, line: _Line) -> str:
        """Return the device's name; the real one of the root device, which some kernels name /dev/root."""
        if line.device not in _ROOT_ALIASES:
            return "" if line.device == "none" else line.device
        try:
            device = Path("/dev", (self._devices / line.number).readlink().name)
            return str(device) if device.exists() else line.device
        except OSError:
            return line.device


def host_name(mountpoint: str, rootfs: str) -> str | None:
    """Return a mount point's name on the host, given ``rootfs`` ('' for the root); None outside ``rootfs``."""
    if not rootfs:  # also on Windows, where drives have no common root
        return mountpoint
    if mountpoint == rootfs:
        return "/"
    if mountpoint.startswith(f"{rootfs}/"):
        return mountpoint.removeprefix(rootfs)
    return None


def _effective(options_on_host: list[str], line: _Line) -> str:
    """Return the options in the form of /proc/mounts."""
    is_readonly = "ro" in options_on_host or not _FAILED.isdisjoint(line.super_options)
    others = dict.fromkeys(option for option in (*line.options, *line.super_options) if option not in ("ro", "rw"))
    return ",".join(("ro" if is_readonly else "rw", *others))


@lru_cache(_MAX_REMEMBERED)
def _lines(text: str, source: str) -> Sequence[_Line]:
    """Return the parsed lines; mounts seldom change between two scrapes."""
    return each_line(text, _parse_line, source)


def _parse_line(line: str) -> _Line:
    fields = line.split(" ")
    end = fields.index("-", _OPTIONAL_FIELDS)
    return _Line(
        id=fields[0],
        number=fields[2],
        mountpoint=_unescaped(fields[4]),
        options=fields[5].split(","),
        fstype=_unescaped(fields[end + 1]),
        device=_unescaped(fields[end + 2]),
        super_options=fields[end + 3].split(","),
    )


def _unescaped(field: str) -> str:
    return _ESCAPED.sub(lambda octal: chr(int(octal[1], 8)), field)
