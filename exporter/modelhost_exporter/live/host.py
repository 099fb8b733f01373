"""CPU, memory, network and disk of the message."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.live.counters import increase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelhost_exporter.live.family_lookup import Families
    from modelhost_exporter.live.message import ContainerLimits


class CpuWork(NamedTuple):
    """CPU seconds with work, and all that programs could use; None where they are not measured."""

    busy: float | None
    seconds: float | None


class Traffic(NamedTuple):
    """Bytes into and out of the machine, or from and to its disks, since a start; None where they are not measured."""

    received: float | None
    sent: float | None

    @property
    def is_known(self) -> bool:
        """Whether either is measured."""
        return self != (None, None)


def cpu_work(families: Families) -> CpuWork:
    """Return the CPU time so far."""
    return CpuWork(families.one("host_cpu_busy_seconds_total"), families.one("host_cpu_seconds_total"))


def cpu_percent(readings: Sequence[CpuWork]) -> float | None:
    """Return the CPU time with work in percent; in bursts, a container uses more than its limit."""
    busy, seconds = increase(work.busy for work in readings), increase(work.seconds for work in readings)
    return None if busy is None or not seconds else min(100.0, 100.0 * busy / seconds)


def network_traffic(families: Families) -> Traffic:
    """Return the bytes that the machine has received and sent."""
    return Traffic(families.one("host_network_receive_bytes_total"), families.one("host_network_transmit_bytes_total"))


def disk_traffic(families: Families) -> Traffic:
    """Return the bytes read from all physical disks, and written to them."""
    return Traffic(families.one("host_disk_read_bytes_total"), families.one("host_disk_written_bytes_total"))


def transferred(readings: Sequence[Traffic]) -> Traffic:
    """Return the bytes transferred between the first and the last reading."""
    return Traffic(increase(traffic.received for traffic in readings), increase(traffic.sent for traffic in readings))


def container_limits(families: Families) -> ContainerLimits:
    """Return the limits that are lower than what the machine has."""
    return {
        "cpuCores": _if_lower(families.one("host_cpu_cores"), families.one("cpu_logical_cores")),
        "memoryBytes": _if_lower(families.one("host_memory_total_bytes"), families.one("memory_total_bytes")),
    }


def _if_lower(limit: float | None, whole: float | None) -> float | None:
    return limit if limit is not None and whole is not None and limit < whole else None


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
    """Return the memory of the machine, or of the container whose limit counts."""
    total, available = (families.one(f"host_memory_{what}_bytes") for what in ("total", "available"))
    return MemoryUse(None if total is None or available is None else total - available, available, total)


def percent(part: float | None, whole: float | None) -> float | None:
    """Return a share in percent; None where either is not known or the whole is 0."""
    return None if part is None or not whole else 100.0 * part / whole
