"""Open files of the whole machine against the kernel's limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.collectors import Collector, Options, Paths, parts
from modelhost_exporter.linux.kernel_files import count, read
from modelhost_exporter.metrics.families import gauge

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

__all__ = ["FAMILIES", "FileDescriptorsCollector", "Options", "create"]

ALLOCATED = gauge("file_descriptors_allocated", "File handles allocated on the whole machine.")
MAXIMUM = gauge("file_descriptors_maximum", "File handles the kernel allows (fs.file-max).")
FAMILIES = (ALLOCATED, MAXIMUM)


class FileDescriptorsCollector:
    """Allocated and maximum file handles (/proc/sys/fs/file-nr)."""

    def __init__(self, procfs: Path) -> None:
        self._file_nr = procfs / "sys/fs/file-nr"

    def collect(self) -> Iterator[Metric]:
        """Yield both numbers; Unavailable without file-nr."""
        allocated, _unused, maximum = read(self._file_nr).split()
        yield from parts(lambda: ALLOCATED.of(count(allocated)), lambda: MAXIMUM.of(count(maximum)))


def create(_options: Options, paths: Paths) -> Collector:
    """Build the file descriptor collector."""
    return FileDescriptorsCollector(paths.procfs)
