"""The processes of a model server on this machine: found by their program and port, then known by their number."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LOOK_AGAIN_SECONDS = 60.0
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
    """The command line of the process that listens."""


class LocalProcesses:
    """Finds one server's processes (psutil). Walking the machine's processes is not cheap: it is done once a minute."""

    def __init__(self, host: str, port: int, source: Any = psutil, now: Callable[[], float] = time.monotonic) -> None:
        self._here = is_local(host)
        self._port = port
        self._source = source
        self._now = now
        self._looked: float | None = None
        self._family: list[Any] = []

    def find(self, programs: Sequence[str]) -> ServerProcesses | None:
        """Return the local processes whose command line has one of these words; None when there are none."""
        if not self._here or not programs:
            return None
        if self._looked is None or self._now() - self._looked >= _LOOK_AGAIN_SECONDS:
            self._family = self._search(programs)
            self._looked = self._now()
        return self._measured()

    def forget(self) -> None:
        """Search again next time: the server was away, and may be another process."""
        self._looked = None

    def _measured(self) -> ServerProcesses | None:
        resident: dict[int, float] = {}
        arguments: Sequence[str] = ()
        for process in self._family:
            try:
                resident[process.pid] = process.memory_info().rss
                arguments = arguments or process.cmdline()
            except (self._source.Error, OSError):
                continue
        if not resident or self._family[0].pid not in resident:
            return None
        return ServerProcesses(frozenset(resident), sum(resident.values()), tuple(arguments))

    def _search(self, programs: Sequence[str]) -> list[Any]:
        """Return the process that listens on the port, and its children."""
        for process in self._source.process_iter():
            try:
                words = process.cmdline()
                if words and _is_one(words, programs) and self._listens(process):
                    return [process, *process.children(recursive=True)]
            except (self._source.Error, OSError):
                continue
        return []

    def _listens(self, process: Any) -> bool:
        ask = getattr(process, "net_connections", None) or process.connections
        return any(
            connection.status == self._source.CONN_LISTEN and connection.laddr.port == self._port
            for connection in ask("tcp")
        )


def _is_one(words: Sequence[str], programs: Sequence[str]) -> bool:
    """Return whether the program, or an interpreter's script or module, matches; other arguments do not count."""
    interpreted = words[0].rpartition("/")[2].startswith("python")
    candidates = words[:3] if interpreted else words[:1]
    return any(program.casefold() in word.casefold() for word in candidates for program in programs)
