"""Which configured model server a process belongs to: by listening port, command line or container."""

from __future__ import annotations

import math
import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

_MOST_ANCESTORS = 16
_MOST_REMEMBERED = 1000
_LOOK_AGAIN_SECONDS = 15.0
_CONTAINER = re.compile(r"[0-9a-f]{64}")


class Server(NamedTuple):
    """How a model server's processes are known: any of its signs will do; '' and 0 are no sign."""

    name: str
    port: int = 0
    """It listens there, or its command line says so (``--port 8000``)."""
    command: str = ""
    """A part of its command line."""
    container: str = ""
    """The beginning of its container's id."""


class Owners:
    """Finds the server of a process: the first whose sign the process bears, or one of those that started it.

    A worker that holds the GPU was started by the server that listens (vLLM, Ollama). What listens on a port is visible
    only for processes of the same user, or as root; the command line always is. Looking takes a while: an owner is
    remembered as long as the process runs, and that there is none for 15 s (a server listens once its model is loaded).
    """

    def __init__(
        self,
        servers: Iterable[Server],
        procfs: Path,
        source: Any = psutil,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._servers = tuple(servers)
        self._procfs = procfs
        self._source = source
        self._clock = clock
        self._remembered: dict[tuple[int, float], tuple[str | None, float]] = {}

    def know(self, servers: Iterable[Server]) -> None:
        """Know these servers from now on; what was found with others is looked for anew."""
        if (new := tuple(servers)) != self._servers:
            self._servers = new
            self._remembered = {}

    def __call__(self, pid: int) -> str | None:
        """Return the server's name; None for a process that belongs to none, or cannot be seen."""
        if not self._servers:
            return None
        try:
            process = pid, float(self._source.Process(pid).create_time())
        except (psutil.Error, OSError):
            return None
        owner, looked = self._remembered.get(process, (None, -math.inf))
        if owner is None and self._clock() - looked >= _LOOK_AGAIN_SECONDS:
            owner = self._find(pid)
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[process] = owner, self._clock()
        return owner

    def _find(self, pid: int) -> str | None:
        for process in self._family(pid):
            seen = self._look_at(process)
            for server in self._servers:
                if seen.is_of(server):
                    return server.name
        return None

    def _look_at(self, process: Any) -> _Seen:
        """Return one process's signs, each read once however many servers there are."""
        with_port = any(server.port for server in self._servers)
        with_container = any(server.container for server in self._servers)
        return _Seen(
            _command(process),
            _ports(process) if with_port else frozenset(),
            self._containers(process) if with_container else (),
        )

    def _family(self, pid: int) -> Iterator[Any]:
        """Yield the process and those that started it, as far as they can be seen."""
        try:
            process = self._source.Process(pid)
            for _ in range(_MOST_ANCESTORS):
                yield process
                process = process.parent()
                if process is None:
                    return
        except (psutil.Error, OSError):
            return

    def _containers(self, process: Any) -> tuple[str, ...]:
        try:
            cgroup = (self._procfs / str(process.pid) / "cgroup").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ()
        return tuple(_CONTAINER.findall(cgroup))


class _Seen(NamedTuple):
    """What can be seen of one process."""

    command: str
    ports: frozenset[int]
    containers: tuple[str, ...]

    def is_of(self, server: Server) -> bool:
        """Tell whether it bears any of a server's signs."""
        if server.port and (server.port in self.ports or self._says(server.port)):
            return True
        if server.command and server.command in self.command:
            return True
        return server.container != "" and any(found.startswith(server.container) for found in self.containers)

    def _says(self, port: int) -> bool:
        return re.search(rf"--?port[ =]{port}(?!\d)", self.command) is not None


def _command(process: Any) -> str:
    """Return the command line; '' for a process that ended meanwhile or is a zombie, which has none."""
    try:
        return " ".join(process.cmdline())
    except (psutil.Error, OSError):
        return ""


def _ports(process: Any) -> frozenset[int]:
    """Return the ports that it listens on; none for another user's process."""
    try:
        connections = process.net_connections("tcp")
    except (psutil.Error, OSError):
        return frozenset()
    return frozenset(c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN)
