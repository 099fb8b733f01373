"""CPU, memory, network and disk of the message."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.live.quantiles import increase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelhost_exporter.live.family_lookup import Families
    from modelhost_exporter.live.message import DiskUsage

_IDLE = ("idle", "iowait")

Cpus = dict[str, "CpuSeconds"]


class CpuSeconds(NamedTuple):
    """Seconds of one CPU since boot."""

    idle: float
    total: float


class NetworkTraffic(NamedTuple):
    """Bytes of all physical network interfaces; None where they are not measured."""

    received: float | None
    sent: float | None

    @property
    def is_known(self) -> bool:
        """Whether either is measured."""
        return self != (None, None)


def cpus(families: Families) -> Cpus:
    """Return the seconds of each CPU; time spent waiting for I/O counts as idle."""
    found: Cpus = {}
    for (cpu, mode), seconds in families.by("cpu_seconds_total", "cpu", "mode").items():
        idle, total = found.get(cpu, (0.0, 0.0))
        found[cpu] = CpuSeconds(idle + seconds * (mode in _IDLE), total + seconds)
    return found


def cpu_percent(first: Cpus, last: Cpus) -> float | None:
    """Return the busy CPU time between two moments in percent, of the CPUs that were online at both."""
    idle = total = 0.0
    for cpu in first.keys() & last.keys():
        idle_of_one, total_of_one = (now - then for now, then in zip(last[cpu], first[cpu], strict=True))
        if 0 <= idle_of_one <= total_of_one:  # else the CPU was offline in between
            idle, total = idle + idle_of_one, total + total_of_one
    return 100.0 * (1.0 - idle / total) if total > 0 else None


def network_traffic(families: Families) -> NetworkTraffic:
    """Return the bytes that the machine has received and sent."""
    return NetworkTraffic(
        families.one("host_network_receive_bytes_total"), families.one("host_network_transmit_bytes_total")
    )


def transferred(readings: Sequence[NetworkTraffic]) -> NetworkTraffic:
    """Return the bytes transferred between the first and the last reading."""
    return NetworkTraffic(
        increase(traffic.received for traffic in readings), increase(traffic.sent for traffic in readings)
    )


class MemoryUse(NamedTuple):
    """Memory in bytes, and its use in percent."""

    used: float | None
    available: float | None
    total: float | None

    @property
    def percent(self) -> float | None:
        """Used memory in percent."""
        return percent(self.used, self.total)


def memory_use(families: Families) -> MemoryUse:
    """Return the memory of the machine."""
    return MemoryUse(
        used=families.one("memory_used_bytes"),
        available=families.one("memory_available_bytes"),
        total=families.one("memory_total_bytes"),
    )


def disk_usage(families: Families) -> DiskUsage | None:
    """Return the space of the file system at ``/``, or of the largest where that is not measured, computed like df."""
    labels = ("device", "mountpoint", "fstype")
    sizes = families.by("filesystem_size_bytes", *labels)
    if not sizes:
        return None
    chosen = next((key for key in sizes if key[1] == "/"), None) or max(sizes, key=lambda key: sizes[key])
    size, free = sizes[chosen], families.by("filesystem_free_bytes", *labels).get(chosen)
    available = families.by("filesystem_available_bytes", *labels).get(chosen)
    used = None if free is None else size - free
    usable = None if used is None or available is None else used + available
    return {"used": used, "total": size, "percent": percent(used, usable)}


def percent(part: float | None, whole: float | None) -> float | None:
    """Return a share in percent; None where either is not known or the whole is 0."""
    return None if part is None or not whole else 100.0 * part / whole
