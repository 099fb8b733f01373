"""Find the configured server that a process belongs to, by the port that its program listens on."""

from __future__ import annotations

import math
import re
import time
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_MAX_ANCESTORS = 16
_MAX_REMEMBERED = 1000
_RETRY_SECONDS = 15.0
_PORT = re.compile(r"--?port[ =]([0-9]{1,5})(?![0-9])")
_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "fish", "ksh", "tcsh", "csh", "busybox"})
# Programs that start unrelated programs; their own command line may be that of one of these.
_STARTERS = re.compile(
    r"init|systemd|launchd|tini|dumb-init|docker-init|catatonit|s6-svscan|runsv(dir)?|supervisord|pm2|cron|atd|su|sudo"
    r"|login|sshd?(-session)?|mosh-server|tmux|screen|zellij|byobu|dtach|abduco"
    r"|containerd(-shim.*)?|dockerd|conmon|podman|kubelet",
    re.IGNORECASE,
)


class LocalServer(NamedTuple):
    """A configured server that may run on this machine, and the port of its URL."""

    name: str
    port: int


class ProcessOwners:
    """Find the server of a process: the first whose port it, or one of its ancestors, listens on.

    A port in the command line (``--port 8000``) counts as well: what listens on a port is visible only for processes of
    the same user, or as root. The process that holds the GPU is often a child of the one that listens (vLLM, Ollama).
    Shells are skipped, and the search ends at an interactive one and at programs that start unrelated programs (init, a
    terminal multiplexer). The search takes a while: an owner is remembered as long as the process runs, and that there
    is none for 15 s (a server listens once its model is loaded).
    """

    def __init__(
        self, servers: Iterable[LocalServer], source: Any = psutil, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._servers = tuple(servers)
        self._source = source
        self._clock = clock
        self._remembered: dict[tuple[int, float], tuple[str | None, float]] = {}

    def replace_servers(self, servers: Iterable[LocalServer]) -> None:
        """Search for these servers from now on; owners among others are forgotten."""
        if (new := tuple(servers)) != self._servers:
            self._servers = new
            self._remembered = {}

    def __call__(self, pid: int) -> str | None:
        """Return the server's name; None for a process that belongs to none, or cannot be read."""
        if not self._servers:
            return None
        try:
            process = pid, float(self._source.Process(pid).create_time())
        except (psutil.Error, OSError):
            return None
        remembered = self._remembered  # of the servers of now: others may come while it is looked for
        owner, looked = remembered.get(process, (None, -math.inf))
        if owner is None and self._clock() - looked >= _RETRY_SECONDS:
            owner = self._find(pid)
            if len(remembered) >= _MAX_REMEMBERED:
                remembered.clear()
            remembered[process] = owner, self._clock()
        return owner

    def _find(self, pid: int) -> str | None:
        for process, command in self._family(pid):
            ports = _ports(process) | _ports_in(command)
            for server in self._servers:
                if server.port in ports:
                    return server.name
        return None

    def _family(self, pid: int) -> Iterator[tuple[Any, Sequence[str]]]:
        """Yield the process and its ancestors with their command lines, as far as they belong to one program."""
        try:
            process = self._source.Process(pid)
            for _ in range(_MAX_ANCESTORS):
                command = _command(process)
                if _starts_unrelated(command):
                    return
                if _program(command) not in _SHELLS:
                    yield process, command
                process = process.parent()
                if process is None:
                    return
        except (psutil.Error, OSError):
            return


def _command(process: Any) -> list[str]:
    """Return the command line; [] for a process that ended meanwhile or is a zombie, which has none."""
    try:
        return list(process.cmdline())
    except (psutil.Error, OSError):
        return []


def _program(command: Sequence[str]) -> str:
    """Return the program's name, without the dash of a login shell and what follows a colon in a process title."""
    return PurePosixPath(command[0].partition(":")[0]).name.removeprefix("-") if command else ""


def _starts_unrelated(command: Sequence[str]) -> bool:
    """Return whether a program starts unrelated programs; a shell that runs a script or ``-c`` does not."""
    program, words = _program(command), command[1:]
    interactive = "-i" in words or all(word.startswith("-") for word in words)
    return _STARTERS.fullmatch(program) is not None or (program in _SHELLS and interactive)


def _ports(process: Any) -> frozenset[int]:
    """Return the ports that a process listens on; none for another user's process."""
    try:
        connections = process.net_connections("tcp")
    except (psutil.Error, OSError):
        return frozenset()
    return frozenset(c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN)


def _ports_in(command: Sequence[str]) -> frozenset[int]:
    """Return the ports that a command line names."""
    return frozenset(map(int, _PORT.findall(" ".join(command))))
