"""Limits and use of control groups, of version 2 and, on older hosts, 1.

Sources: Linux Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/. In version 1 each controller (memory, cpu …) has
a tree of its own, other names of files, and nanoseconds. A host may have both (hybrid), each with some controllers.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from functools import lru_cache
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from modelhost_exporter.collector import Paths, Unavailable, log_once
from modelhost_exporter.linux.kernel_files import (
    count,
    is_present,
    parse_counts,
    parse_ranges,
    read,
    read_if_possible,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from pathlib import Path

T = TypeVar("T")

_FIRST_PROCESS = 1
_MAX_REMEMBERED = 64
MEMORY, CPU, _CPUS = "memory", "cpu", "cpuset"
"""Controllers."""
_CPU_USE = "cpuacct"
_NANOSECONDS = 1e9
_V1_UNLIMITED = 2**62
"""Version 1 writes the largest number of pages for no limit."""


class CgroupLimit(NamedTuple):
    """A limit and the control group that has it."""

    value: float
    folder: Path


class Cgroups:
    """The control groups below the given /proc and /sys."""

    def __init__(self, procfs: Path, sysfs: Path) -> None:
        self._procfs = procfs
        self._mounts = (sysfs / "fs/cgroup", sysfs / "fs/cgroup/unified")
        self._roots: dict[str, tuple[Path, str]] = {}

    def own(self, controller: str) -> Sequence[Path]:
        """Return the folders of the exporter's cgroup and of the visible ones above it."""
        root, tree = self._root_of(controller)
        return _with_parents(root, self._path_of("self", tree))

    def of_container(self, controller: str) -> Sequence[Path]:
        """Return the folders that the exporter has in common with process 1, such as those of its container.

        [] where process 1 is outside (a pod whose containers share their processes).
        """
        root, tree = self._root_of(controller)
        first, own = (self._path_of(process, tree) for process in (str(_FIRST_PROCESS), "self"))
        pairs = zip(first.split("/"), own.split("/"), strict=False)
        common = [part for part, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)]
        return [] if ".." in first.split("/") else _with_parents(root, "/".join(common))

    def _path_of(self, process: str, tree: str) -> str:
        return own_path(read(self._procfs / process / "cgroup"), tree)

    def _root_of(self, controller: str) -> tuple[Path, str]:
        """Return what ``_find_root`` found first: file systems of control groups are mounted once."""
        if controller not in self._roots:
            self._roots[controller] = self._find_root(controller)
        return self._roots[controller]

    def _find_root(self, controller: str) -> tuple[Path, str]:
        """Return the root of the tree that has a controller, and its name in /proc/PID/cgroup: '' for version 2."""
        whole, unified = self._mounts
        if is_present(whole / "cgroup.controllers"):
            return whole, ""
        is_unified = controller in (read_if_possible(unified / "cgroup.controllers") or "").split()
        if is_present(whole / controller / "cgroup.procs") and not is_unified:
            return whole / controller, controller
        if not is_present(unified / "cgroup.controllers"):
            raise Unavailable("no file system of control groups")
        return unified, ""


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
        controllers: Collection[str] = (MEMORY, CPU),
    ) -> None:
        """Prepare; limits and use of what is not in ``controllers`` are not read."""
        self._controllers = {*controllers, *((_CPUS,) if CPU in controllers else ())}
        self._cgroups = Cgroups(procfs, sysfs)
        self._clock = clock
        self._at: float | None = None
        self._allowed = 0.0
        self._is_alone = (os.getpid() if process is None else process) == _FIRST_PROCESS

    @classmethod
    def measured_in(cls, paths: Paths, *controllers: str) -> Callable[[], ContainerUse]:
        """Return the function for the machine that has these folders: without limits where they are those of a host."""
        if paths.rootfs != Paths.rootfs or paths.procfs != Paths.procfs:
            return lambda: UNLIMITED
        return cls(paths.procfs, paths.sysfs, controllers=controllers).use

    def use(self) -> ContainerUse:
        """Return limits and use."""
        if self._is_alone:
            return UNLIMITED
        memory = tightest(memory_limit, self._folders(MEMORY))
        cpu = tightest(cpu_limit, self._folders(CPU))
        cpus = tightest(_cpus, self._folders(_CPUS))
        least = min((limit for limit in (cpu, cpus) if limit), default=None)
        return ContainerUse(
            int(memory.value) if memory else None,
            _if_possible(_working_set, memory),
            least.value if least else None,
            _if_possible(cpu_seconds, least),
            self._allowed_seconds(least.value if least else 0.0),
        )

    def _folders(self, controller: str) -> Sequence[Path]:
        if controller not in self._controllers:
            return []
        try:
            return self._cgroups.of_container(controller)
        except (OSError, ValueError, Unavailable):
            return []

    def _allowed_seconds(self, cpus: float) -> float:
        before, self._at = self._at, self._clock()
        self._allowed += 0.0 if before is None else cpus * (self._at - before)
        return self._allowed


@lru_cache(_MAX_REMEMBERED)
def _with_parents(root: Path, path: str) -> tuple[Path, ...]:
    """Return the folder of a cgroup and those above it, up to the root.

    Where a container's own cgroup is mounted as the root, the path may be outside it: then the root counts.
    """
    own = root / path.lstrip("/")
    return own, *(folder for folder in own.parents if folder.is_relative_to(root))


@lru_cache(_MAX_REMEMBERED)
def own_path(text: str, tree: str = "") -> str:
    """Return the path of a tree in /proc/self/cgroup: '0::/path' (version 2) or '4:cpu,cpuacct:/path'."""
    for line in text.splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if path and tree in controllers.split(","):
            return path
    raise Unavailable(f"in no control group of {tree or 'version 2'}")


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
    words = _limit_file(f"{folder}/memory.max") or _limit_file(f"{folder}/memory.limit_in_bytes")
    limit = count(words[0]) if words else _V1_UNLIMITED
    return limit if limit < _V1_UNLIMITED else None


def memory_used(folder: Path) -> int:
    """Return the memory in use in bytes, cached files included."""
    return count(_first(folder, "memory.current", "memory.usage_in_bytes"))


def cpu_limit(folder: Path) -> float | None:
    """Return the limit of CPU time in CPUs."""
    words = _limit_file(f"{folder}/cpu.max")
    if not words:
        quota, period = (_limit_file(f"{folder}/cpu.cfs_{what}_us") for what in ("quota", "period"))
        words = [*quota, *period] if quota != ["-1"] else []
    return count(words[0]) / count(words[1]) if words else None


def cpu_seconds(folder: Path) -> float | None:
    """Return the CPU time used."""
    with suppress(Unavailable):
        if (seconds := _microseconds(folder, "usage_usec")) is not None:
            return seconds
    return count(read(_used_by(folder)).strip()) / _NANOSECONDS


def throttled_seconds(folder: Path) -> float | None:
    """Return for how long the CPU limit held back tasks."""
    if (seconds := _microseconds(folder, "throttled_usec")) is not None:
        return seconds
    nanoseconds = parse_counts(read(f"{folder}/cpu.stat")).get("throttled_time")
    return None if nanoseconds is None else nanoseconds / _NANOSECONDS


def _cpus(folder: Path) -> float | None:
    """Return the number of CPUs on which the cgroup may run."""
    try:
        return len(parse_ranges(_first(folder, "cpuset.cpus.effective", "cpuset.effective_cpus"))) or None
    except (Unavailable, ValueError):
        return None


def _working_set(folder: Path) -> int:
    found = parse_counts(read(f"{folder}/memory.stat"))
    inactive = found.get("total_inactive_file", found.get("inactive_file", 0))  # of version 1, with the groups below
    return max(0, memory_used(folder) - inactive)


def _if_possible(read_of: Callable[[Path], T | None], limit: CgroupLimit | None) -> T | None:
    try:
        return read_of(limit.folder) if limit else None
    except (OSError, ValueError, Unavailable) as error:
        log_once(str(limit), str(error))
        return None


def _first(folder: Path, *names: str) -> str:
    """Return the text of the first of some files that is there."""
    for name in names[:-1]:
        with suppress(Unavailable):
            return read(f"{folder}/{name}").strip()
    return read(f"{folder}/{names[-1]}").strip()


def _used_by(folder: Path) -> Path:
    """Return the file of the CPU time of a group of version 1, which may be in a tree of its own."""
    tree = next((above for above in (folder, *folder.parents) if above.name in (CPU, _CPUS)), folder)
    return tree.with_name(_CPU_USE) / folder.relative_to(tree) / "cpuacct.usage"


def _microseconds(folder: Path, name: str) -> float | None:
    microseconds = parse_counts(read(f"{folder}/cpu.stat")).get(name)
    return None if microseconds is None else microseconds / 1e6


def _limit_file(path: str) -> list[str]:
    """Return the words of a limit file; [] where it is absent (in the root) or 'max'."""
    try:
        words = read(path).split()
    except Unavailable:
        return []
    return [] if words[:1] == ["max"] else words
