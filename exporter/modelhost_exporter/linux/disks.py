"""Disk counters from /proc/diskstats."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.collector import Unavailable
from modelhost_exporter.linux.kernel_files import all_counts, each_line, is_present, read, read_if_possible

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

_SECTOR_BYTES = 512  # whatever the device's own size; source: Linux Documentation/block/stat.rst
_PARTITION_FIELDS = 4  # of kernels before 2.6.25


class DiskCounts(NamedTuple):
    """One disk's counters since boot, under psutil's names; times in milliseconds."""

    read_count: int
    write_count: int
    read_bytes: int
    write_bytes: int
    read_time: int | None = None
    write_time: int | None = None
    busy_time: int | None = None
    weighted_time: int | None = None
    """Time in flight, summed over requests; not in psutil."""


class Disks:
    """Disk counters from the given /proc, or from /sys on kernels without /proc/diskstats."""

    def __init__(self, procfs: Path, sysfs: Path) -> None:
        self._diskstats = procfs / "diskstats"
        self._blocks = sysfs / "block"

    def disk_io_counters(self, *, perdisk: bool, nowrap: bool) -> dict[str, DiskCounts]:
        """Return the counters of every disk and partition. Raises Unavailable where the kernel has none."""
        del perdisk, nowrap
        try:
            return parse_diskstats(read(self._diskstats))
        except Unavailable:
            stats = {folder.name: read_if_possible(folder / "stat") for folder in self._blocks.glob("*")}
            if not stats:
                raise
        return parse_diskstats("\n".join(f"0 0 {name} {text}" for name, text in stats.items() if text))

    def carriers(self, names: Iterable[str], selected: Collection[str]) -> list[str]:
        """Return the disks that together transfer each byte once: the hardware among all ``names``.

        Where there is none (a network block device), those of ``selected`` that are based on no other one, as LVM, LUKS
        and RAID are.
        """
        return [name for name in names if is_present(f"{self._folder(name)}/device")] or [
            name for name in selected if not any((self._folder(name) / "slaves").glob("*"))
        ]

    def _folder(self, name: str) -> Path:
        return self._blocks / name.replace("/", "!")  # as the kernel does


def parse_diskstats(text: str) -> dict[str, DiskCounts]:
    """Return the counters by device; source: Linux Documentation/admin-guide/iostats.rst."""
    return dict(each_line(text, _parse_line, "diskstats"))


def _parse_line(line: str) -> tuple[str, DiskCounts]:
    _major, _minor, name, *fields = line.split()
    numbers = all_counts(fields)
    if len(numbers) == _PARTITION_FIELDS:
        reads, read_sectors, writes, written_sectors = numbers
        return name, DiskCounts(reads, writes, read_sectors * _SECTOR_BYTES, written_sectors * _SECTOR_BYTES)
    reads, _, read_sectors, read_time, writes, _, written_sectors, write_time, _, busy, weighted = numbers[:11]
    sizes = read_sectors * _SECTOR_BYTES, written_sectors * _SECTOR_BYTES
    return name, DiskCounts(reads, writes, *sizes, read_time, write_time, busy, weighted)
