"""Open files of the whole machine, and the kernel's limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.collector import Collector, CollectorContext, CollectorOptions, SimulatedHost, parts
from modelhost_exporter.linux.kernel_files import count, read
from modelhost_exporter.metrics.families import gauge

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

ALLOCATED = gauge("file_descriptors_allocated", "File handles allocated on the whole machine.")
MAXIMUM = gauge("file_descriptors_maximum", "File handles the kernel allows (fs.file-max).")
FAMILIES = (ALLOCATED, MAXIMUM)


class FileDescriptorsCollector:
    """Allocated and maximum file handles, from /proc/sys/fs/file-nr."""

    def __init__(self, procfs: Path) -> None:
        self._file_nr = procfs / "sys/fs/file-nr"

    def collect(self) -> Iterator[Metric]:
        """Yield both numbers; Unavailable without file-nr."""
        allocated, _unused, maximum = read(self._file_nr).split()
        yield from parts(lambda: ALLOCATED.of(count(allocated)), lambda: MAXIMUM.of(count(maximum)))


def create(_options: CollectorOptions, context: CollectorContext) -> Collector:
    """Build the file descriptor collector."""
    return FileDescriptorsCollector(context.paths.procfs)


def create_simulated(options: CollectorOptions, context: CollectorContext, _host: SimulatedHost) -> Collector:
    """Build the collector for ``--demo``, which writes the same files."""
    return create(options, context)
