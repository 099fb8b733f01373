"""Processes that run or are blocked, from the kernel's own summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.collectors import Collector, Options, Paths
from modelhost_exporter.linux.kernel_files import parse_counts, read
from modelhost_exporter.metrics.families import gauge

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

__all__ = ["FAMILIES", "Options", "ProcessesCollector", "create"]

RUNNING = gauge("procs_running", "Tasks that run or wait for a CPU.")
BLOCKED = gauge("procs_blocked", "Tasks that wait for a disk.")
FAMILIES = (RUNNING, BLOCKED)


class ProcessesCollector:
    """Runnable and blocked tasks (/proc/stat), without walking every process."""

    def __init__(self, procfs: Path) -> None:
        self._stat = procfs / "stat"

    def collect(self) -> Iterator[Metric]:
        """Yield both numbers; Unavailable without /proc/stat."""
        counts = parse_counts(read(self._stat))
        yield from RUNNING.of(counts.get("procs_running"))
        yield from BLOCKED.of(counts.get("procs_blocked"))


def create(_options: Options, paths: Paths) -> Collector:
    """Build the process collector."""
    return ProcessesCollector(paths.procfs)
