"""The processes that use most CPU time and memory, measured only when they are requested."""

from __future__ import annotations

import asyncio
import heapq
import json
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import psutil

from modelhost_exporter import threads
from modelhost_exporter.gpu.processes import UNKNOWN, program
from modelhost_exporter.linux import processes as linux
from modelhost_exporter.linux.processes import ProcessUse
from modelhost_exporter.linux.users import user_name
from modelhost_exporter.process.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from modelhost_exporter.collector import Paths
    from modelhost_exporter.live.process_message import ProcessesMessage, ProcessMessage

TOP = 10
"""Processes in each list."""
_MAX_NAME = 256
_DEADLINE_SECONDS = 5.0
_FIRST_SPAN_SECONDS = 0.5
_MAX_SPAN_SECONDS = 60.0
_MIN_INTERVAL_SECONDS = 2.0
_MAX_SHARE = 0.05
"""The share of a core that may be spent on measuring."""


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


class _Result(NamedTuple):
    """An encoded message, and until when it is shared (monotonic)."""

    body: bytes
    until: float


class ProcessFeed:
    """The processes as JSON, for requests of the event loop: one measurement at a time, in a thread of its own.

    A result is shared for two seconds, and longer where measuring takes long: on average it takes 5 % of a core.
    """

    def __init__(self, sampler: ProcessSampler, deadline_seconds: float = _DEADLINE_SECONDS) -> None:
        self._sampler = sampler
        self._worker = Worker(self._measure, "processes")
        self._deadline = deadline_seconds
        self._result: _Result | None = None
        self._pending: asyncio.Future[bytes] | None = None

    async def encoded(self) -> bytes:
        """Return the processes as JSON.

        Raises TimeoutError where measuring takes too long, RuntimeError where no thread is free, and the errors of the
        source.
        """
        if self._result is not None and time.monotonic() < self._result.until:
            return self._result.body
        if self._pending is None or self._pending.done():
            self._pending = threads.call(self._wait)
        return await asyncio.shield(self._pending)

    def close(self) -> None:
        """End the thread, once its measurement is done."""
        self._worker.close()

    def _wait(self) -> bytes:
        """Measure, or wait for the measurement in progress; at most until the deadline."""
        run = self._worker.start()
        if not run.wait(self._deadline):
            raise TimeoutError(f"the processes were not read within {self._deadline:g} s")
        if run.error is not None:
            raise run.error
        self._result = run.value
        return run.value.body

    def _measure(self) -> _Result:
        before = time.thread_time()
        body = json.dumps(self._sampler.measure(), allow_nan=False).encode()
        pause = max(_MIN_INTERVAL_SECONDS, (time.thread_time() - before) / _MAX_SHARE)
        return _Result(body, time.monotonic() + pause)
