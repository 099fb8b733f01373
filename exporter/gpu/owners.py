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

    def __call__(self, pid: int) -> str | None:
        """Return the server's name; None for a process that belongs to none, or cannot be seen."""
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
            for server in self._servers:
                if any(sign(process, server) for sign in self._signs()):
                    return server.name
        return None

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

    def _signs(self) -> tuple[Callable[[Any, Server], bool], ...]:
        return _says_so, self._is_in_container, _listens

    def _is_in_container(self, process: Any, server: Server) -> bool:
        if not server.container:
            return False
        try:
            cgroup = (self._procfs / str(process.pid) / "cgroup").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
        return any(found.startswith(server.container) for found in _CONTAINER.findall(cgroup))


def _says_so(process: Any, server: Server) -> bool:
    command = " ".join(process.cmdline())
    says_port = server.port and re.search(rf"--?port[ =]{server.port}(?!\d)", command)
    return bool(says_port) or (server.command != "" and server.command in command)


def _listens(process: Any, server: Server) -> bool:
    if not server.port:
        return False
    try:
        connections = process.net_connections("tcp")
    except (psutil.Error, OSError):
        return False
    return any(c.status == psutil.CONN_LISTEN and c.laddr.port == server.port for c in connections)
