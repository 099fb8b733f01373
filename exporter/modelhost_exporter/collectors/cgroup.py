"""The limits of the container (cgroup v2) that the exporter runs in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from modelhost_exporter.collector import (
    Collector,
    CollectorContext,
    CollectorOptions,
    SimulatedHost,
    Unavailable,
    log_once,
    parts,
)
from modelhost_exporter.linux.kernel_files import count, parse_counts, read
from modelhost_exporter.metrics.families import counter, gauge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

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
        self._own = procfs / "self/cgroup"
        self._mounts = (sysfs / "fs/cgroup", sysfs / "fs/cgroup/unified")

    def collect(self) -> Iterator[Metric]:
        """Yield limits and use; Unavailable where no cgroup v2 has a limit."""
        folders = self._folders()
        memory = _tightest(_memory_limit, folders)
        cpu = _tightest(_cpu_limit, folders)
        if memory is None and cpu is None:
            raise Unavailable("no cgroup v2 limit applies")
        if memory is not None:
            limit, folder = memory
            yield from parts(lambda: MEMORY_LIMIT.of(limit), lambda: MEMORY_USED.of(_memory_used(folder)))
        if cpu is not None:
            cores, cpu_folder = cpu
            yield from parts(lambda: CPU_LIMIT.of(cores), lambda: CPU_THROTTLED.of(_throttled_seconds(cpu_folder)))

    def _folders(self) -> list[Path]:
        """Return the folders of the exporter's cgroup and of the visible ones above it."""
        root = next((mount for mount in self._mounts if (mount / "cgroup.controllers").exists()), None)
        if root is None:
            raise Unavailable("no cgroup v2 file system")
        # Where a container's own cgroup is mounted as the root, the path may be outside it: then the root counts.
        own = root / own_path(read(self._own)).lstrip("/")
        return [own, *(folder for folder in own.parents if folder.is_relative_to(root))]


def own_path(text: str) -> str:
    """Return the cgroup v2 path in /proc/self/cgroup ('0::/path'); Unavailable on a pure v1 system."""
    for line in text.splitlines():
        if line.startswith("0::"):
            return line.removeprefix("0::")
    raise Unavailable("not in a cgroup v2")


def _limit_file(path: Path) -> list[str]:
    """Return the words of a limit file; [] where it is absent (in the root) or 'max'."""
    try:
        words = read(path).split()
    except Unavailable:
        return []
    return [] if words[:1] == ["max"] else words


def _tightest(limit_of: Callable[[Path], float | None], folders: Iterable[Path]) -> tuple[float, Path] | None:
    """Return the smallest limit and its folder; files that cannot be read or parsed are skipped."""
    limits = []
    for folder in folders:
        try:
            limit = limit_of(folder)
        except (OSError, ValueError, IndexError, ZeroDivisionError) as error:
            log_once(str(folder), str(error))
            continue
        if limit is not None:
            limits.append((limit, folder))
    return min(limits, default=None)


def _memory_limit(folder: Path) -> float | None:
    words = _limit_file(folder / "memory.max")
    return count(words[0]) if words else None


def _memory_used(folder: Path) -> int:
    return count(read(folder / "memory.current").strip())


def _cpu_limit(folder: Path) -> float | None:
    words = _limit_file(folder / "cpu.max")
    return count(words[0]) / count(words[1]) if words else None


def _throttled_seconds(folder: Path) -> float | None:
    throttled = parse_counts(read(folder / "cpu.stat")).get("throttled_usec")
    return None if throttled is None else throttled / 1e6


def create(_options: CollectorOptions, _context: CollectorContext) -> Collector:
    """Build the cgroup collector.

    It always reads the container's own /proc and /sys, because the path in /proc/self/cgroup is relative to the
    container's /sys/fs/cgroup. In the host's, the same path ('/') would be the root, which has no limit.
    """
    return CgroupCollector(Path("/proc"), Path("/sys"))


def create_simulated(_options: CollectorOptions, context: CollectorContext, _host: SimulatedHost) -> Collector:
    """Build the collector for ``--demo``."""
    return CgroupCollector(context.paths.procfs, context.paths.sysfs)
