"""The processes that use most CPU time and memory, measured only when they are requested."""

from __future__ import annotations

import heapq
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import psutil

from modelhost_exporter.gpu.processes import UNKNOWN, program
from modelhost_exporter.linux import processes as linux
from modelhost_exporter.linux.processes import ProcessUse
from modelhost_exporter.linux.users import user_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from modelhost_exporter.collector import Paths
    from modelhost_exporter.live.process_message import ProcessesMessage, ProcessMessage

TOP = 10
"""Processes in each list."""
_MAX_NAME = 256
_FIRST_SPAN_SECONDS = 0.5
_MAX_SPAN_SECONDS = 60.0


class ProcessSource(Protocol):
    """The processes of a machine."""

    def read(self) -> Iterable[ProcessUse]:
        """Return what every process uses; may block."""
        ...

    def describe(self, pid: int) -> tuple[str, str]:
        """Return the name and the user of a process; may block."""
        ...


class LinuxProcesses:
    """The processes in /proc."""

    def __init__(self, paths: Callable[[], Paths]) -> None:
        self._paths = paths

    def read(self) -> Iterable[ProcessUse]:
        """Return what every process uses."""
        return linux.process_uses(self._paths().procfs)

    def describe(self, pid: int) -> tuple[str, str]:
        """Return the program and the user of a process."""
        paths = self._paths()
        name = program(linux.command_line(paths.procfs, pid)) or linux.command_name(paths.procfs, pid)
        owner = linux.owner_id(paths.procfs, pid)
        return name[:_MAX_NAME] or UNKNOWN, UNKNOWN if owner is None else user_name(owner, paths.rootfs)


class PsutilProcesses:
    """The processes of psutil, on other systems than Linux."""

    def __init__(self, source: Any = psutil) -> None:
        self._source = source

    def read(self) -> Iterable[ProcessUse]:
        """Yield what every process uses that may be read."""
        for process in self._source.process_iter():
            try:
                with process.oneshot():
                    times, memory = process.cpu_times(), process.memory_info()
                    yield ProcessUse(process.pid, process.create_time(), times.user + times.system, memory.rss)
            except (psutil.Error, OSError):
                continue

    def describe(self, pid: int) -> tuple[str, str]:
        """Return the name and the user of a process."""
        try:
            process = self._source.Process(pid)
            return process.name()[:_MAX_NAME] or UNKNOWN, process.username()
        except (psutil.Error, OSError, KeyError):
            return UNKNOWN, UNKNOWN


def this_machine(paths: Callable[[], Paths]) -> ProcessSource:
    """Return the processes of this machine."""
    return LinuxProcesses(paths) if sys.platform == "linux" else PsutilProcesses()


class _Reading(NamedTuple):
    """All processes at one moment of the monotonic clock."""

    at: float
    uses: Mapping[tuple[int, float], ProcessUse]


class ProcessSampler:
    """Measures the processes; used by one thread at a time.

    The CPU time covers the time since the last measurement, if that was within a minute; else half a second.
    """

    def __init__(
        self,
        source: ProcessSource,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._source = source
        self._clock = clock
        self._sleep = sleep
        self._last: _Reading | None = None

    def measure(self) -> ProcessesMessage:
        """Return the processes with the most CPU time and memory. Blocks."""
        first = self._last
        if first is None or self._clock() - first.at > _MAX_SPAN_SECONDS:
            first = self._read()
            self._sleep(_FIRST_SPAN_SECONDS)
        self._last = last = self._read()
        seconds = max(last.at - first.at, 1e-3)
        worked = {key: use.cpu_seconds - _before(first, key) for key, use in last.uses.items()}
        by_cpu = heapq.nlargest(TOP, worked, key=lambda key: worked[key])
        by_memory = heapq.nlargest(TOP, last.uses, key=lambda key: last.uses[key].resident_bytes)
        described = {key: self._source.describe(key[0]) for key in {*by_cpu, *by_memory}}

        def message(key: tuple[int, float]) -> ProcessMessage:
            name, user = described[key]
            cpu = max(0.0, round(100 * worked[key] / seconds, 1))
            return {"name": name, "user": user, "cpu": cpu, "memory": last.uses[key].resident_bytes}

        return {
            "processes": len(last.uses),
            "seconds": round(seconds, 3),
            "byCpu": [message(key) for key in by_cpu if worked[key] > 0],
            "byMemory": [message(key) for key in by_memory],
        }

    def _read(self) -> _Reading:
        at = self._clock()
        return _Reading(at, {(use.pid, use.started): use for use in self._source.read()})


def _before(first: _Reading, key: tuple[int, float]) -> float:
    """Return the CPU time that a process had used before; 0 for one that started since."""
    use = first.uses.get(key)
    return use.cpu_seconds if use is not None else 0.0
