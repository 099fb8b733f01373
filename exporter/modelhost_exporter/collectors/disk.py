"""Disk throughput, operations and times per device."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil

from modelhost_exporter.collector import Collector, CollectorContext, CollectorOptions, SimulatedHost, Unavailable
from modelhost_exporter.config.name_filter import NameFilter, all_but
from modelhost_exporter.linux.disks import Disks
from modelhost_exporter.metrics.families import counter
from modelhost_exporter.metrics.summed_counters import SummedFamilies

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from prometheus_client.metrics_core import Metric

# field of psutil or DiskCounts → family, and factor to base units
_COUNTERS = {
    "read_bytes": (counter("disk_read_bytes", "Bytes read from the device.", "device"), 1),
    "write_bytes": (counter("disk_written_bytes", "Bytes written to the device.", "device"), 1),
    "read_count": (counter("disk_reads_completed", "Reads completed.", "device"), 1),
    "write_count": (counter("disk_writes_completed", "Writes completed.", "device"), 1),
    "read_time": (
        counter(
            "disk_read_time_seconds",
            "Seconds spent reading, summed over requests.",
            "device",
            note="Divided by the number of reads it is the mean read latency.",
        ),
        1e-3,
    ),
    "write_time": (
        counter(
            "disk_write_time_seconds",
            "Seconds spent writing, summed over requests.",
            "device",
            note="Divided by the number of writes it is the mean write latency.",
        ),
        1e-3,
    ),
    "busy_time": (
        counter(
            "disk_io_time_seconds",
            "Seconds with at least one request in flight.",
            "device",
            note="A rate of 1 means always busy, not saturated: SSDs serve many requests at the same time.",
        ),
        1e-3,
    ),
    "weighted_time": (
        counter(
            "disk_io_time_weighted_seconds",
            "Seconds in flight, summed over requests.",
            "device",
            note="Its rate is the mean queue length.",
        ),
        1e-3,
    ),
}
_NOTE = (
    "Independent of the option `devices`. LVM, LUKS and RAID are not counted beside the disks below them; a mirror "
    "writes each byte to every one of its disks. Starts at 0."
)
_HOST = {
    "read_bytes": counter("host_disk_read_bytes", "Bytes read from all physical disks together.", note=_NOTE),
    "write_bytes": counter("host_disk_written_bytes", "Bytes written to all physical disks together.", note=_NOTE),
}
FAMILIES = (*(family for family, _ in _COUNTERS.values()), *_HOST.values())

_NO_DEVICES = "no disk device is selected"


@dataclass(frozen=True)
class DiskOptions(CollectorOptions):
    """The selected disks."""

    devices: NameFilter = field(
        default_factory=lambda: all_but(r"(z?ram|loop|fd|sr)\d+", r"(h|s|v|xv)d[a-z]+\d+", r"(nvme\d+n|mmcblk)\d+p\d+")
    )
    """Partitions, loop devices, RAM disks and optical drives are left out by default."""


OPTIONS = DiskOptions


def _all_selected(_names: Iterable[str], selected: Collection[str]) -> Collection[str]:
    return selected


class DiskCollector:
    """Disk counters of the selected devices, as far as the platform has them, and the bytes of all physical ones.

    ``carriers`` returns the latter, given all devices and the selected ones; by default the selected ones.
    """

    def __init__(
        self,
        devices: NameFilter,
        source: Any = psutil,
        carriers: Callable[[Iterable[str], Collection[str]], Collection[str]] = _all_selected,
    ) -> None:
        self._devices = devices
        self._source = source
        self._carriers = carriers
        self._of_host = SummedFamilies(_HOST)

    def collect(self) -> Iterator[Metric]:
        """Yield the counters of each device; Unavailable when none is selected."""
        try:
            read_all = self._source.disk_io_counters(perdisk=True, nowrap=False) or {}
        except NotImplementedError as error:  # neither /proc/diskstats nor /sys/block (gVisor)
            raise Unavailable("this kernel has no disk statistics") from error
        disks = {name: counts for name, counts in read_all.items() if self._devices.keeps(name)}
        if not disks:
            raise Unavailable(_NO_DEVICES)
        for source_field, (family, unit) in _COUNTERS.items():
            values = ((name, getattr(counts, source_field, None)) for name, counts in disks.items())
            yield from family.by(((name,), None if value is None else value * unit) for name, value in values)
        yield from self._of_host.of({name: read_all[name] for name in self._carriers(read_all, disks)})


def create(options: DiskOptions, context: CollectorContext) -> Collector:
    """Build the disk collector."""
    if sys.platform != "linux":
        return DiskCollector(options.devices)
    disks = Disks(context.paths.procfs, context.paths.sysfs)
    return DiskCollector(options.devices, disks, disks.carriers)


def create_simulated(options: DiskOptions, _context: CollectorContext, host: SimulatedHost) -> Collector:
    """Build the collector for ``--demo``."""
    return DiskCollector(options.devices, host.psutil)
