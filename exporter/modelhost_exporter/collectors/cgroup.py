"""The limits of the container (control groups) that the exporter runs in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from modelhost_exporter.collector import (
    Collector,
    CollectorContext,
    CollectorOptions,
    SimulatedHost,
    Unavailable,
    parts,
)
from modelhost_exporter.linux import cgroups
from modelhost_exporter.metrics.families import counter, gauge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

MEMORY_LIMIT = gauge(
    "cgroup_memory_limit_bytes",
    "Memory limit of the exporter's container.",
    note="The tightest limit of its control groups.",
)
MEMORY_USED = gauge("cgroup_memory_used_bytes", "Memory in use in the container with that limit, page cache included.")
CPU_LIMIT = gauge(
    "cgroup_cpu_limit_cores",
    "CPU limit of the exporter's container, in cores.",
    note="The tightest limit of its control groups.",
)
CPU_THROTTLED = counter(
    "cgroup_cpu_throttled_seconds", "Seconds in which the CPU limit held back tasks of the container."
)
FAMILIES = (MEMORY_LIMIT, MEMORY_USED, CPU_LIMIT, CPU_THROTTLED)


class CgroupCollector:
    """The tightest memory and CPU limits of the exporter's own cgroup and those above it."""

    def __init__(self, procfs: Path, sysfs: Path) -> None:
        self._cgroups = cgroups.Cgroups(procfs, sysfs)

    def collect(self) -> Iterator[Metric]:
        """Yield limits and use; Unavailable where no control group has a limit."""
        memory = cgroups.tightest(cgroups.memory_limit, self._cgroups.own(cgroups.MEMORY))
        cpu = cgroups.tightest(cgroups.cpu_limit, self._cgroups.own(cgroups.CPU))
        if memory is None and cpu is None:
            raise Unavailable("no limit of a control group applies")
        if memory is not None:
            limit, folder = memory
            yield from parts(lambda: MEMORY_LIMIT.of(limit), lambda: MEMORY_USED.of(cgroups.memory_used(folder)))
        if cpu is not None:
            cores, cpu_folder = cpu
            yield from parts(
                lambda: CPU_LIMIT.of(cores), lambda: CPU_THROTTLED.of(cgroups.throttled_seconds(cpu_folder))
            )


def create(_options: CollectorOptions, _context: CollectorContext) -> Collector:
    """Build the cgroup collector.

    It always reads the container's own /proc and /sys, because the path in /proc/self/cgroup is relative to the
    container's /sys/fs/cgroup. In the host's, the same path ('/') would be the root, which has no limit.
    """
    return CgroupCollector(Path("/proc"), Path("/sys"))


def create_simulated(_options: CollectorOptions, context: CollectorContext, _host: SimulatedHost) -> Collector:
    """Build the collector for ``--demo``."""
    return CgroupCollector(context.paths.procfs, context.paths.sysfs)
