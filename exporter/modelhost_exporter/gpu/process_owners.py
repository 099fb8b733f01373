"""Find the configured server that a process belongs to, by the port that it or an ancestor listens on."""

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
_MAX_CACHED = 1000
_RETRY_SECONDS = 15.0
_PORT = re.compile(r"--?port[ =]([0-9]{1,5})(?![0-9])")
_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "fish", "ksh", "tcsh", "csh", "busybox"})
# Programs that start unrelated programs.
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

    A port in the command line (``--port 8000``) counts as well, since other users' listening ports are visible to root
    only. Ancestors count because the process that holds the GPU is often a child of the one that listens (vLLM,
    Ollama). Shells are skipped, and the search ends at an interactive one and at programs that start unrelated programs
    (init, a terminal multiplexer). The search is slow, so that its result is cached: an owner as long as the process
    runs, the lack of one for 15 s (a server listens once its model is loaded).
    """

    def __init__(
        self, servers: Iterable[LocalServer], source: Any = psutil, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._servers = tuple(servers)
        self._source = source
        self._clock = clock
        self._cache: dict[tuple[int, float], tuple[str | None, float]] = {}

    def replace_servers(self, servers: Iterable[LocalServer]) -> None:
        """Search for these servers from now on, and clear the cache where they changed."""
        if (new := tuple(servers)) != self._servers:
            self._servers = new
            self._cache = {}

    def __call__(self, pid: int) -> str | None:
        """Return the server's name; None for a process that belongs to none, or cannot be read."""
        if not self._servers:
            return None
        try:
            process = pid, float(self._source.Process(pid).create_time())
        except (psutil.Error, OSError):
            return None
        cache = self._cache  # of the current servers: a reload may replace them during the search
        owner, searched_at = cache.get(process, (None, -math.inf))
        if owner is None and self._clock() - searched_at >= _RETRY_SECONDS:
            owner = self._find(pid)
            if len(cache) >= _MAX_CACHED:
                cache.clear()
            cache[process] = owner, self._clock()
        return owner

    def _find(self, pid: int) -> str | None:
        for process, command in self._with_ancestors(pid):
            ports = _ports(process) | _ports_in(command)
            for server in self._servers:
                if server.port in ports:
                    return server.name
        return None

    def _with_ancestors(self, pid: int) -> Iterator[tuple[Any, Sequence[str]]]:
        """Yield the process and its ancestors, as far as they belong to one program, with their command lines."""
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
    """Return the command line; [] for a process that has ended or is a zombie, which has none."""
    try:
        return list(process.cmdline())
    except (psutil.Error, OSError):
        return []


def _program(command: Sequence[str]) -> str:
    """Return the program's name, without a login shell's dash, and without what follows a colon in a process title."""
    return PurePosixPath(command[0].partition(":")[0]).name.removeprefix("-") if command else ""


def _starts_unrelated(command: Sequence[str]) -> bool:
    """Return whether a program starts unrelated programs; of shells only interactive ones do."""
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
    """Return the ports in a command line."""
    return frozenset(map(int, _PORT.findall(" ".join(command))))
