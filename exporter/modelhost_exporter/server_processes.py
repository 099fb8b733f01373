"""Which processes of this machine belong to a server: those that serve its port, and what they started.

``gpu.process_owners`` walks from a process to its server, ``engines.local_processes`` from a server to its processes;
both decide with the functions here, so that they agree.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MAX_ANCESTORS = 16
_PORT = re.compile(r"--?port[ =]([0-9]{1,5})(?![0-9])")
_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "fish", "ksh", "tcsh", "csh", "busybox"})
# Programs that start unrelated programs; their own command line may be that of one of these.
_STARTERS = re.compile(
    r"init|systemd|launchd|tini|dumb-init|docker-init|catatonit|s6-svscan|runsv(dir)?|supervisord|pm2|cron|atd|su|sudo"
    r"|login|sshd?(-session)?|mosh-server|tmux|screen|zellij|byobu|dtach|abduco"
    r"|containerd(-shim.*)?|dockerd|conmon|podman|kubelet",
    re.IGNORECASE,
)


def ports_of(process: Any, command: Sequence[str]) -> frozenset[int]:
    """Return the ports that a process serves: those that it listens on, and those that its command line names.

    What listens on a port is visible only for processes of the same user, or as root.
    """
    return _listening(process) | _named(command)


def lineage(process: Any) -> Iterator[tuple[Any, Sequence[str]]]:
    """Yield a process and its ancestors with their command lines, as far as they belong to one program.

    Shells are skipped, and the search ends at an interactive one and at programs that start unrelated programs (init, a
    terminal multiplexer).
    """
    try:
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


def descends_from(process: Any, pid: int) -> bool:
    """Return whether a process is, or was started by, the one with this number, as part of its program."""
    return any(ancestor.pid == pid for ancestor, _ in lineage(process))


def _command(process: Any) -> list[str]:
    """Return the command line; [] for a process that ended meanwhile or is a zombie, which has none."""
    try:
        return list(process.cmdline())
    except (psutil.Error, OSError):
        return []


def _program(command: Sequence[str]) -> str:
    """Return the program's name, without a login shell's dash, and without what follows a colon in a process title."""
    return PurePosixPath(command[0].partition(":")[0]).name.removeprefix("-") if command else ""


def _starts_unrelated(command: Sequence[str]) -> bool:
    """Return whether a program starts unrelated programs; a shell that runs a script or ``-c`` does not."""
    program, words = _program(command), command[1:]
    interactive = "-i" in words or all(word.startswith("-") for word in words)
    return _STARTERS.fullmatch(program) is not None or (program in _SHELLS and interactive)


def _listening(process: Any) -> frozenset[int]:
    """Return the ports that a process listens on; none for another user's process."""
    try:
        connections = process.net_connections("tcp")
    except (psutil.Error, OSError):
        return frozenset()
    return frozenset(c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN)


def _named(command: Sequence[str]) -> frozenset[int]:
    """Return the ports that a command line names."""
    return frozenset(map(int, _PORT.findall(" ".join(command))))
