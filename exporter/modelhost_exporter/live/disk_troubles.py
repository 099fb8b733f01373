"""File systems of the message that are full, have become read-only or do not respond."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelhost_exporter.live.family_lookup import Families
    from modelhost_exporter.live.message import DiskTrouble

_MAX_TROUBLES = 8
_MIN_AVAILABLE_RATIO = 0.03
"""Of the size, as in the critical alert HostFilesystemFull."""


class _Device(NamedTuple):
    """A file system, which may be mounted at several places."""

    device: str
    fstype: str


class DiskWatch:
    """The file systems that could be written to before: one that is mounted read-only on purpose is no trouble."""

    def __init__(self) -> None:
        self._writable: frozenset[_Device] = frozenset()

    def troubles(self, families: Families) -> list[DiskTrouble]:
        """Return the file systems in trouble by mount point, each once; to be called with each measurement."""
        read_only, silent, available, size = (
            families.by(f"filesystem_{name}", "mountpoint", "device", "fstype")
            for name in ("readonly", "device_error", "available_bytes", "size_bytes")
        )
        found: dict[_Device, DiskTrouble] = {}
        for key in sorted(read_only):
            device = _Device(*key[1:])
            if silent.get(key):
                found.setdefault(device, {"mountpoint": key[0], "problem": "silent"})
            elif read_only[key]:
                if device in self._writable:
                    found.setdefault(device, {"mountpoint": key[0], "problem": "read_only"})
            elif key in available and available[key] < _MIN_AVAILABLE_RATIO * size.get(key, 0.0):
                found.setdefault(device, {"mountpoint": key[0], "problem": "full"})
        self._note_writable(read_only)
        return list(found.values())[:_MAX_TROUBLES]

    def _note_writable(self, read_only: Mapping[tuple[str, ...], float]) -> None:
        """Note which file systems can be written to; those that are mounted no more are dropped."""
        if read_only:  # else the collector is late
            known = {_Device(*key[1:]) for key in read_only}
            writable = {_Device(*key[1:]) for key, value in read_only.items() if not value}
            self._writable = frozenset(self._writable & known | writable)
