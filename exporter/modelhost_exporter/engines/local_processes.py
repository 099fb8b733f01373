"""Find the processes of a server on this machine by program and port."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

from modelhost_exporter.server_processes import descends_from, ports_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SEARCH_INTERVAL_SECONDS = 60.0
_LOCAL = ("127.0.0.1", "localhost", "::1")


def is_local(host: str) -> bool:
    """Return whether a URL's host is this machine's loopback."""
    return host in _LOCAL or host.startswith("127.")


@dataclass(frozen=True)
class ServerProcesses:
    """The processes of one server."""

    pids: frozenset[int]
    resident_bytes: float
    arguments: Sequence[str]
    """The command line of the process that serves the port."""


class LocalProcesses:
    """The processes of one server (psutil), searched once a minute, since listing all processes is expensive."""

    def __init__(self, host: str, port: int, source: Any = psutil, now: Callable[[], float] = time.monotonic) -> None:
        self._here = is_local(host)
        self._port = port
        self._source = source
        self._now = now
        self._searched: float | None = None
        self._processes: list[Any] = []

    def find(self, programs: Sequence[str]) -> ServerProcesses | None:
        """Return the local processes whose command line has one of these words; None when there are none."""
        if not self._here or not programs:
            return None
        if self._searched is None or self._now() - self._searched >= _SEARCH_INTERVAL_SECONDS:
            self._processes = self._search(programs)
            self._searched = self._now()
        return self._measured()

    def forget(self) -> None:
        """Search again next time, since a server that was restarted is another process."""
        self._searched = None

    def _measured(self) -> ServerProcesses | None:
        resident: dict[int, float] = {}
        arguments: Sequence[str] = ()
        for process in self._processes:
            try:
                resident[process.pid] = process.memory_info().rss
                arguments = arguments or process.cmdline()
            except (self._source.Error, OSError):
                continue
        if not resident or self._processes[0].pid not in resident:
            return None
        return ServerProcesses(frozenset(resident), sum(resident.values()), tuple(arguments))

    def _search(self, programs: Sequence[str]) -> list[Any]:
        """Return the process that serves the port, and what it started."""
        for process in self._source.process_iter():
            try:
                if self._serves(process, programs):
                    started = process.children(recursive=True)
                    return [process, *(child for child in started if descends_from(child, process.pid))]
            except (self._source.Error, OSError):
                continue
        return []

    def _serves(self, process: Any, programs: Sequence[str]) -> bool:
        words = process.cmdline()
        if not words or not is_one_of(words, programs):
            return False
        return self._port in ports_of(process, words) and descends_from(process, process.pid)


def is_one_of(words: Sequence[str], programs: Sequence[str]) -> bool:
    """Return whether the program, or an interpreter's script or module, matches; other arguments do not count."""
    return any(program.casefold() in word.casefold() for word in _program(words) for program in programs)


def _program(words: Sequence[str]) -> Sequence[str]:
    """Return the program, and what a Python interpreter runs: the first argument that is no option of its own."""
    if not words[0].rpartition("/")[2].startswith("python"):
        return words[:1]
    script = next((word for word in words[1:] if not word.startswith("-")), "")
    return words[0], script
