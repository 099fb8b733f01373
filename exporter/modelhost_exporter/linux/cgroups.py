"""Limits and use of control groups (cgroup v2); source: Linux Documentation/admin-guide/cgroup-v2.rst."""

from __future__ import annotations

import os
import time
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from modelhost_exporter.collector import Paths, Unavailable, log_once
from modelhost_exporter.linux.kernel_files import count, is_present, parse_counts, parse_ranges, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

T = TypeVar("T")

_FIRST_PROCESS = 1


class CgroupLimit(NamedTuple):
    """A limit and the control group that has it."""

    value: float
    folder: Path


class Cgroups:
    """The control groups below the given /proc and /sys."""

    def __init__(self, procfs: Path, sysfs: Path) -> None:
        self._procfs = procfs
        self._mounts = (sysfs / "fs/cgroup", sysfs / "fs/cgroup/unified")

    def own(self) -> list[Path]:
        """Return the folders of the exporter's cgroup and of the visible ones above it."""
        root = self._root()
        return _with_parents(root, self._path_of("self"))

    def of_container(self) -> list[Path]:
        """Return the folders that the exporter has in common with process 1, such as those of its container.

        [] where process 1 is outside (a pod whose containers share their processes).
        """
        root = self._root()
        first, own = (self._path_of(process) for process in (str(_FIRST_PROCESS), "self"))
        pairs = zip(first.split("/"), own.split("/"), strict=False)
        common = [part for part, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)]
        return [] if ".." in first.split("/") else _with_parents(root, "/".join(common))

    def _path_of(self, process: str) -> str:
        return own_path(read(self._procfs / process / "cgroup"))

    def _root(self) -> Path:
        root = next((mount for mount in self._mounts if is_present(mount / "cgroup.controllers")), None)
        if root is None:
            raise Unavailable("no cgroup v2 file system")
        return root


class ContainerUse(NamedTuple):
    """What the programs of a container may use and do use; None without a limit."""

    memory_bytes: int | None = None
    memory_used_bytes: int | None = None
    """Without cached files that were not used lately, which the kernel frees first."""
    cpus: float | None = None
    cpu_seconds: float | None = None
    limit_seconds: float = 0.0
    """CPU time that the limit has allowed since the first reading."""


UNLIMITED = ContainerUse()


class Container:
    """The container that the exporter shares with the programs that it measures.

    A container in which it is the first process is its own, and limits nothing else.
    """

    def __init__(
        self,
        procfs: Path,
        sysfs: Path,
        process: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cgroups = Cgroups(procfs, sysfs)
        self._clock = clock
        self._at: float | None = None
        self._allowed = 0.0
        self._is_alone = (os.getpid() if process is None else process) == _FIRST_PROCESS

    @classmethod
    def measured_in(cls, paths: Paths) -> Callable[[], ContainerUse]:
        """Return the function for the machine that has these folders: without limits where they are those of a host."""
        if paths.rootfs != Paths.rootfs or paths.procfs != Paths.procfs:
            return lambda: UNLIMITED
        return cls(paths.procfs, paths.sysfs).use

    def use(self) -> ContainerUse:
        """Return limits and use."""
        if self._is_alone:
            return UNLIMITED
        try:
            folders = self._cgroups.of_container()
        except (OSError, ValueError, Unavailable):
            return UNLIMITED
        memory = tightest(memory_limit, folders)
        cpu = tightest(cpu_limit, folders)
        cpus = tightest(_cpus, folders)
        least = min((limit for limit in (cpu, cpus) if limit), default=None)
        return ContainerUse(
            int(memory.value) if memory else None,
            _if_possible(_working_set, memory),
            least.value if least else None,
            _if_possible(cpu_seconds, least),
            self._allowed_seconds(least.value if least else 0.0),
        )

    def _allowed_seconds(self, cpus: float) -> float:
        before, self._at = self._at, self._clock()
        self._allowed += 0.0 if before is None else cpus * (self._at - before)
        return self._allowed


def _with_parents(root: Path, path: str) -> list[Path]:
    """Return the folder of a cgroup and those above it, up to the root.

    Where a container's own cgroup is mounted as the root, the path may be outside it: then the root counts.
    """
    own = root / path.lstrip("/")
    return [own, *(folder for folder in own.parents if folder.is_relative_to(root))]


def own_path(text: str) -> str:
    """Return the cgroup v2 path in /proc/self/cgroup ('0::/path'); Unavailable on a pure v1 system."""
    for line in text.splitlines():
        if line.startswith("0::"):
            return line.removeprefix("0::")
    raise Unavailable("not in a cgroup v2")


def tightest(limit_of: Callable[[Path], float | None], folders: Iterable[Path]) -> CgroupLimit | None:
    """Return the smallest limit; files that cannot be read or parsed are skipped."""
    limits = []
    for folder in folders:
        try:
            limit = limit_of(folder)
        except (OSError, ValueError, IndexError, ZeroDivisionError) as error:
            log_once(str(folder), str(error))
            continue
        if limit is not None:
            limits.append(CgroupLimit(limit, folder))
    return min(limits, default=None)


def memory_limit(folder: Path) -> float | None:
    """Return the limit in bytes."""
    words = _limit_file(folder / "memory.max")
    return count(words[0]) if words else None


def memory_used(folder: Path) -> int:
    """Return the memory in use in bytes, cached files included."""
    return count(read(folder / "memory.current").strip())


def cpu_limit(folder: Path) -> float | None:
    """Return the limit of CPU time in CPUs."""
    words = _limit_file(folder / "cpu.max")
    return count(words[0]) / count(words[1]) if words else None


def cpu_seconds(folder: Path) -> float | None:
    """Return the CPU time used."""
    return _seconds(folder, "usage_usec")


def throttled_seconds(folder: Path) -> float | None:
    """Return for how long the CPU limit held back tasks."""
    return _seconds(folder, "throttled_usec")


def _cpus(folder: Path) -> float | None:
    """Return the number of CPUs on which the cgroup may run."""
    try:
        return len(parse_ranges(read(folder / "cpuset.cpus.effective"))) or None
    except (Unavailable, ValueError):
        return None


def _working_set(folder: Path) -> int:
    return max(0, memory_used(folder) - parse_counts(read(folder / "memory.stat")).get("inactive_file", 0))


def _if_possible(read_of: Callable[[Path], T | None], limit: CgroupLimit | None) -> T | None:
    try:
        return read_of(limit.folder) if limit else None
    except (OSError, ValueError, Unavailable) as error:
        log_once(str(limit), str(error))
        return None


def _seconds(folder: Path, name: str) -> float | None:
    microseconds = parse_counts(read(folder / "cpu.stat")).get(name)
    return None if microseconds is None else microseconds / 1e6


def _limit_file(path: Path) -> list[str]:
    """Return the words of a limit file; [] where it is absent (in the root) or 'max'."""
    try:
        words = read(path).split()
    except Unavailable:
        return []
    return [] if words[:1] == ["max"] else words
