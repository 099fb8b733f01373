"""Numbers of tasks that run or are blocked, from the kernel's own summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.linux.kernel_files import parse_counts, read
from modelhost_exporter.metrics.families import gauge

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

    from modelhost_exporter.collector import Collector, CollectorContext, CollectorOptions, SimulatedHost

RUNNING = gauge("procs_running", "Tasks that run or wait for a CPU.")
BLOCKED = gauge("procs_blocked", "Tasks that wait for a disk.")
FAMILIES = (RUNNING, BLOCKED)


class ProcessesCollector:
    """Runnable and blocked tasks from /proc/stat, without reading every process."""

    def __init__(self, procfs: Path) -> None:
        self._stat = procfs / "stat"

    def collect(self) -> Iterator[Metric]:
        """Yield both numbers; Unavailable without /proc/stat."""
        counts = parse_counts(read(self._stat))
        yield from RUNNING.of(counts.get("procs_running"))
        yield from BLOCKED.of(counts.get("procs_blocked"))


def create(_options: CollectorOptions, context: CollectorContext) -> Collector:
    """Build the process collector."""
    return ProcessesCollector(context.paths.procfs)


def create_simulated(options: CollectorOptions, context: CollectorContext, _host: SimulatedHost) -> Collector:
    """Build the collector for ``--demo``, which writes the same files."""
    return create(options, context)
