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

__all__ = ["FAMILIES", "Options", "Processes", "create"]

PROCESSES = gauge("processes", "Tasks that run or wait for a CPU (running) or wait for a disk (blocked).", "state")
FAMILIES = (PROCESSES,)


class Processes:
    """Runnable and blocked tasks (/proc/stat), without walking every process."""

    def __init__(self, procfs: Path) -> None:
        self._stat = procfs / "stat"

    def collect(self) -> Iterator[Metric]:
        """Yield both numbers; Unavailable without /proc/stat."""
        counts = parse_counts(read(self._stat))
        yield from PROCESSES.by(((state,), counts.get(f"procs_{state}")) for state in ("running", "blocked"))


def create(_options: Options, paths: Paths) -> Collector:
    """Build the process collector."""
    return Processes(paths.procfs)
