"""Disk throughput, operations and times per device."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil

from exporter import collectors
from exporter.collectors import Collector, Paths, Unavailable, parts
from exporter.families import counter
from exporter.kernel_files import read
from exporter.linux.disks import Disks, parse_diskstats
from exporter.selection import Selection, all_but

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

# psutil's field → (family, what one unit of it is in base units)
_COUNTERS = {
    "read_bytes": (counter("disk_read_bytes", "Bytes read from the device.", "device"), 1),
    "write_bytes": (counter("disk_written_bytes", "Bytes written to the device.", "device"), 1),
    "read_count": (counter("disk_reads_completed", "Reads completed.", "device"), 1),
    "write_count": (counter("disk_writes_completed", "Writes completed.", "device"), 1),
    "read_time": (
        counter(
            "disk_read_time_seconds",
            "Seconds that all reads took together; over reads: mean read latency.",
            "device",
        ),
        1e-3,
    ),
    "write_time": (
        counter(
            "disk_write_time_seconds",
            "Seconds that all writes took together; over writes: mean latency.",
            "device",
        ),
        1e-3,
    ),
    "busy_time": (
        counter(
            "disk_io_time_seconds",
            "Seconds with at least one request in flight. A rate of 1 is 'always busy', not 'saturated': SSDs serve"
            " many requests at once.",
            "device",
        ),
        1e-3,
    ),
}
IO_WEIGHTED = counter(
    "disk_io_weighted_time_seconds",
    "Seconds in flight, counted once for each request; its rate is the mean queue length.",
    "device",
)
FAMILIES = (*(family for family, _ in _COUNTERS.values()), IO_WEIGHTED)

_NO_DEVICES = "no disk device is selected"


@dataclass(frozen=True)
class Options(collectors.Options):
    """Which disks are measured."""

    devices: Selection = field(
        default_factory=lambda: all_but(r"(z?ram|loop|fd|sr)\d+", r"(h|s|v|xv)d[a-z]+\d+", r"(nvme\d+n|mmcblk)\d+p\d+")
    )
    """Partitions, loop devices, RAM disks and optical drives are left out by default."""


class Disk:
    """Disk counters and the weighted queue time (/proc/diskstats) of the selected devices."""

    def __init__(self, devices: Selection, procfs: Path, source: Any = psutil) -> None:
        self._devices = devices
        self._diskstats = procfs / "diskstats"
        self._source = source

    def collect(self) -> Iterator[Metric]:
        """Yield the counters of each device; Unavailable when none is selected."""
        try:
            read_all = self._source.disk_io_counters(perdisk=True, nowrap=False) or {}
        except NotImplementedError as error:  # neither /proc/diskstats nor /sys/block (gVisor)
            raise Unavailable("this kernel has no disk statistics") from error
        disks = {name: counts for name, counts in read_all.items() if self._devices.keeps(name)}
        if not disks:
            raise Unavailable(_NO_DEVICES)
        yield from parts(lambda: _counters(disks), lambda: self._weighted(disks))

    def _weighted(self, disks: Collection[str]) -> Iterator[Metric]:
        weighted = parse_weighted_seconds(read(self._diskstats))  # Unavailable where this is not Linux
        yield from IO_WEIGHTED.by(((name,), weighted.get(name)) for name in disks)


def _counters(disks: Mapping[str, Any]) -> Iterator[Metric]:
    for source_field, (family, unit) in _COUNTERS.items():
        values = ((name, getattr(counts, source_field, None)) for name, counts in disks.items())
        yield from family.by(((name,), None if value is None else value * unit) for name, value in values)


def parse_weighted_seconds(text: str) -> dict[str, float]:
    """Return the weighted seconds by device from /proc/diskstats; old kernels have none of partitions."""
    times = {name: counts.weighted_time for name, counts in parse_diskstats(text).items()}
    return {name: milliseconds / 1000 for name, milliseconds in times.items() if milliseconds is not None}


def create(options: Options, paths: Paths) -> Collector:
    """Build the disk collector."""
    source = Disks(paths.procfs, paths.sysfs) if sys.platform == "linux" else psutil
    return Disk(options.devices, paths.procfs, source)
