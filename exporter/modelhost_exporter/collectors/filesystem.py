"""Space and inodes of mounted file systems."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

from modelhost_exporter.collector import (
    Collector,
    CollectorContext,
    CollectorOptions,
    SimulatedHost,
    Unavailable,
    log_once,
)
from modelhost_exporter.config.duration import Seconds
from modelhost_exporter.config.name_filter import NameFilter, all_but
from modelhost_exporter.linux.mounts import Mounts, host_name
from modelhost_exporter.metrics.families import gauge
from modelhost_exporter.parallel_reads import ParallelReads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import PurePath

    from prometheus_client.metrics_core import Metric

_WAIT_SECONDS = 1.0
_MARGIN_SECONDS = 0.1  # so that the first scrape with a dead mount already reports it

_LABELS = ("device", "mountpoint", "fstype")
_SPACE = {
    "size": gauge("filesystem_size_bytes", "Size of the file system.", *_LABELS),
    "available": gauge(
        "filesystem_available_bytes",
        "Space that unprivileged users can still fill.",
        *_LABELS,
        note="Alert on this one rather than on free space.",
    ),
    "free": gauge("filesystem_free_bytes", "Free space, including the part reserved for root.", *_LABELS),
    "files": gauge(
        "filesystem_files", "Number of inodes.", *_LABELS, note="Absent where the file system creates them as needed."
    ),
    "files_free": gauge("filesystem_files_free", "Inodes that are free.", *_LABELS),
}
READONLY = gauge(
    "filesystem_readonly",
    "1 when the host cannot write to the file system, else 0: mounted read-only, or after an error.",
    *_LABELS,
    note="A read-only mount of the exporter's own, as in a container, does not count.",
)
DEVICE_ERROR = gauge(
    "filesystem_device_error",
    "1 when the file system did not answer in time or returned an error, else 0.",
    *_LABELS,
    note="Such as a dead network mount. Its space is absent meanwhile. Absent where the exporter may not enter.",
)
UPDATED = gauge(
    "filesystem_updated_timestamp_seconds",
    "Time of the last successful reading of the file system, in seconds since 1970.",
    *_LABELS,
    note="A file system whose reading takes long keeps its last values meanwhile.",
)
FAMILIES = (*_SPACE.values(), READONLY, DEVICE_ERROR, UPDATED)

_VIRTUAL_TYPES = (
    r"autofs|binder|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devfs|devpts|devtmpfs|efivarfs|fusectl|hugetlbfs|mqueue",
    r"fuse\.(gvfsd-fuse|lxcfs|portal|snapfuse)|iso9660|nsfs|nullfs|overlay|proc|procfs|pstore|ramfs|rpc_pipefs|securityfs",
    r"selinuxfs|squashfs|erofs|sysfs|tmpfs|tracefs",
)
_CONTAINER_MOUNTS = (
    r"/(dev|proc|sys)(/.*)?",
    r"/run/(credentials|containerd|containers|docker|k3s|netns|snapd|user)(/.*)?",
    r"/var/lib/(docker|containers/storage|containerd|kubelet|rancher|snapd)/.+",
    r"/(System/Volumes|private/var/vm)(/.*)?",
    r"/etc/(hosts|hostname|resolv\.conf)",
)


@dataclass(frozen=True)
class FilesystemOptions(CollectorOptions):
    """The selected file systems, and their time-out."""

    mountpoints: NameFilter = field(default_factory=lambda: all_but(*_CONTAINER_MOUNTS))
    """Kernel folders and mounts of containers are left out by default."""

    fstypes: NameFilter = field(default_factory=lambda: all_but(*_VIRTUAL_TYPES))
    """Virtual file systems are left out by default, but for an overlay at ``/`` where nothing else is measured."""

    timeout: Seconds = Seconds(0.5)
    """A file system that takes longer has a device error, and is not queried again before the call returns.

    For one that took long the last time, the time-out is twice that time, at most 10 s.
    """


OPTIONS = FilesystemOptions
_DEFAULT_TYPES = FilesystemOptions().fstypes


class Space(NamedTuple):
    """A file system's space in bytes, and inodes; None where it does not report them."""

    size: int
    available: int
    free: int
    files: int | None
    files_free: int | None


def space(path: str) -> Space:
    """Query the file system at ``path``; OSError when it refuses. May never return."""
    if sys.platform == "win32":
        usage = psutil.disk_usage(path)
        return Space(usage.total, usage.free, usage.free, None, None)
    stat = os.statvfs(path)
    unit = stat.f_frsize
    return Space(
        size=stat.f_blocks * unit,
        available=stat.f_bavail * unit,
        free=stat.f_bfree * unit,
        files=stat.f_files or None,
        files_free=stat.f_ffree if stat.f_files else None,
    )


_NO_PERMISSION = Space(-1, -1, -1, None, None)
"""In place of the space of a mount that the exporter's user may not reach."""


class _Mount(NamedTuple):
    """A mount to measure. Another device at the same path is another mount."""

    path: str
    """The path in the exporter's mount namespace."""
    labels: tuple[str, str, str]


_RUNNING: dict[_Mount, float] = {}
"""Running calls of all file system collectors, so that a reload does not call into each dead mount again."""


class FilesystemCollector:
    """Size, space and inodes of the selected mounts: from statvfs, on Windows from psutil.

    With a ``rootfs`` other than ``/`` (where a container has the host's root mounted) only mounts at or below it are
    measured, under their names on the host.
    """

    def __init__(  # noqa: PLR0913 - three of them for tests
        self,
        options: FilesystemOptions,
        rootfs: PurePath = Path("/"),
        source: Any = psutil,
        query: Callable[[str], Space] | None = None,
        now: Callable[[], float] = time.time,
        *,
        running: dict[_Mount, float] | None = None,
    ) -> None:
        self._options = options
        self._rootfs = rootfs.as_posix().rstrip("/")
        self._source = source
        self._query = query or space
        self._reads: ParallelReads[_Mount, Space] = ParallelReads(
            self._space,
            options.timeout,
            max(_WAIT_SECONDS, options.timeout + _MARGIN_SECONDS),
            now,
            running,
        )

    def collect(self) -> Iterator[Metric]:
        """Yield the families of every selected mount; Unavailable when none is selected."""
        mounts = dict(self._selected())
        if not mounts:
            raise Unavailable("no file system is selected")
        readings = {
            mount: reading for mount, reading in self._reads.measure(mounts).items() if reading.value != _NO_PERMISSION
        }
        spaces = {mount.labels: reading.value for mount, reading in readings.items() if reading.value}
        for field_name, family in _SPACE.items():
            yield from family.by((labels, _plausible(space, field_name)) for labels, space in spaces.items())
        yield from READONLY.by((mount.labels, float("ro" in opts.split(","))) for mount, opts in mounts.items())
        yield from DEVICE_ERROR.by(
            (mount.labels, float(reading.state != "ok"))
            for mount, reading in readings.items()
            if reading.state != "pending"
        )
        yield from UPDATED.by((mount.labels, reading.time) for mount, reading in readings.items() if reading.value)

    def _space(self, mount: _Mount) -> Space:
        try:
            return self._query(mount.path)
        except PermissionError as error:  # a folder above it, or a FUSE mount of another user
            log_once(mount.path, f"permission denied: {error}")
            return _NO_PERMISSION

    def _selected(self) -> Iterable[tuple[_Mount, str]]:
        """Return each selected mount and its options.

        A container with no other file system than its own overlay at ``/`` has that one.
        """
        named = list(self._named())
        selected = [(mount, options) for mount, options in named if self._options.fstypes.keeps(mount.labels[2])]
        if selected or self._options.fstypes != _DEFAULT_TYPES:
            return selected
        return [(mount, options) for mount, options in named if mount.labels[1:] == ("/", "overlay")]

    def _named(self) -> Iterable[tuple[_Mount, str]]:
        """Yield the mounts of any type that are selected by their mount point.

        Of several mounts at one path only the last is reachable.
        """
        reachable = {part.mountpoint: part for part in self._source.disk_partitions(all=True)}
        for mount, part in reachable.items():
            name = host_name(mount, self._rootfs)
            if name and self._options.mountpoints.keeps(name):
                yield _Mount(mount, (part.device, name, part.fstype)), part.opts


def _plausible(space: Space, field_name: str) -> int | None:
    """Return a value; None for one that is negative, or larger than the file system's size or inodes."""
    value: int | None = getattr(space, field_name)
    whole = space.files if field_name.startswith("files") else space.size
    return value if value is not None and whole is not None and 0 <= value <= whole else None


def create(options: FilesystemOptions, context: CollectorContext) -> Collector:
    """Build the file system collector."""
    rootfs = context.paths.rootfs.as_posix().rstrip("/")
    source = Mounts(context.paths.procfs, context.paths.sysfs, rootfs) if sys.platform == "linux" else psutil
    return FilesystemCollector(options, context.paths.rootfs, source, running=_RUNNING)


def create_simulated(options: FilesystemOptions, _context: CollectorContext, host: SimulatedHost) -> Collector:
    """Build the collector for ``--demo``."""
    return FilesystemCollector(options, source=host.psutil, query=host.psutil.space, now=host.now)
