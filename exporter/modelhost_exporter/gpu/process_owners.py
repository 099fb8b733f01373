"""Which configured model server a process belongs to: by listening port, command line or container."""

from __future__ import annotations

import math
import re
import time
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

_MAX_ANCESTORS = 16
_MAX_REMEMBERED = 1000
_LOOK_AGAIN_SECONDS = 15.0
_CONTAINER = re.compile(r"[0-9a-f]{64}")
_PORT = re.compile(r"--?port[ =]([0-9]{1,5})(?![0-9])")
_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "fish", "ksh", "tcsh", "csh", "busybox"})
# What starts things that have nothing to do with one another; a command line of theirs is one of those things.
_STARTERS = re.compile(
    r"init|systemd|launchd|tini|dumb-init|docker-init|catatonit|s6-svscan|runsv(dir)?|supervisord|pm2|cron|atd|su|sudo"
    r"|login|sshd?(-session)?|mosh-server|tmux|screen|zellij|byobu|dtach|abduco"
    r"|containerd(-shim.*)?|dockerd|conmon|podman|kubelet",
    re.IGNORECASE,
)


class LocalServer(NamedTuple):
    """How a model server's processes are known: any of its signs will do; '' and 0 are no sign."""

    name: str
    port: int = 0
    """It listens there, or its command line says so (``--port 8000``)."""
    command: str = ""
    """A part of its command line."""
    container: str = ""
    """The beginning of its container's id."""


class ProcessOwners:
    """Finds the server of a process: the first whose sign the process bears, or one of those that started it.

    A worker that holds the GPU was started by the server that listens (vLLM, Ollama). A shell is nobody's sign, and
    neither an interactive one nor what starts unrelated things (init, a terminal multiplexer) is looked beyond: its
    other children are no kin. What listens on a port is visible only for processes of the same user, or as root; the
    command line always is. Looking takes a while: an owner is remembered as long as the process runs, and that there is
    none for 15 s (a server listens once its model is loaded).
    """

    def __init__(
        self,
        servers: Iterable[LocalServer],
        procfs: Path,
        source: Any = psutil,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._servers = tuple(servers)
        self._procfs = procfs
        self._source = source
        self._clock = clock
        self._remembered: dict[tuple[int, float], tuple[str | None, float]] = {}

    def know(self, servers: Iterable[LocalServer]) -> None:
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
        remembered = self._remembered  # of the servers of now: others may come while it is looked for
        owner, looked = remembered.get(process, (None, -math.inf))
        if owner is None and self._clock() - looked >= _LOOK_AGAIN_SECONDS:
            owner = self._find(pid)
            if len(remembered) >= _MAX_REMEMBERED:
                remembered.clear()
            remembered[process] = owner, self._clock()
        return owner

    def _find(self, pid: int) -> str | None:
        for process, command in self._family(pid):
            seen = self._look_at(process, command)
            for server in self._servers:
                if seen.is_of(server):
                    return server.name
        return None

    def _look_at(self, process: Any, command: Sequence[str]) -> _Seen:
        """Return one process's signs, each read once however many servers there are."""
        with_port = any(server.port for server in self._servers)
        with_container = any(server.container for server in self._servers)
        return _Seen(
            " ".join(command),
            _ports(process) if with_port else frozenset(),
            self._containers(process) if with_container else (),
        )

    def _family(self, pid: int) -> Iterator[tuple[Any, Sequence[str]]]:
        """Yield the process and those that started it, with their command lines, as far as they are its kin."""
        try:
            process = self._source.Process(pid)
            for _ in range(_MAX_ANCESTORS):
                command = _command(process)
                if _starts_anything(command):
                    return
                if _program(command) not in _SHELLS:
                    yield process, command
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

    def is_of(self, server: LocalServer) -> bool:
        """Tell whether it bears any of a server's signs."""
        if server.port and (server.port in self.ports or self._says(server.port)):
            return True
        if server.command and server.command in self.command:
            return True
        return server.container != "" and any(found.startswith(server.container) for found in self.containers)

    def _says(self, port: int) -> bool:
        return any(int(found) == port for found in _PORT.findall(self.command))


def _command(process: Any) -> list[str]:
    """Return the command line; [] for a process that ended meanwhile or is a zombie, which has none."""
    try:
        return list(process.cmdline())
    except (psutil.Error, OSError):
        return []


def _program(command: Sequence[str]) -> str:
    """Return the name of what runs, without the dash of a login shell and what it calls itself after a colon."""
    return PurePosixPath(command[0].partition(":")[0]).name.removeprefix("-") if command else ""


def _starts_anything(command: Sequence[str]) -> bool:
    """Tell whether what it started has nothing else in common: not so a shell that runs a script or ``-c``."""
    program, words = _program(command), command[1:]
    interactive = "-i" in words or all(word.startswith("-") for word in words)
    return _STARTERS.fullmatch(program) is not None or (program in _SHELLS and interactive)


def _ports(process: Any) -> frozenset[int]:
    """Return the ports that it listens on; none for another user's process."""
    try:
        connections = process.net_connections("tcp")
    except (psutil.Error, OSError):
        return frozenset()
    return frozenset(c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN)
