"""CPU time and memory of every process, from one read of /proc/PID/stat each; name and user of a few."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.linux.kernel_files import count, first_page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
# places after the name, which is in parentheses and may contain anything (proc_pid_stat(5))
_UTIME, _STIME, _STARTTIME, _RSS = 11, 12, 19, 21


class ProcessUse(NamedTuple):
    """CPU seconds since the start of a process, and its resident memory in bytes."""

    pid: int
    started: float
    """Tells two processes with the same number apart."""
    cpu_seconds: float
    resident_bytes: int


def process_uses(procfs: Path) -> Iterator[ProcessUse]:
    """Yield every process; one that ends meanwhile is left out. Raises OSError where the folder cannot be listed."""
    with os.scandir(procfs) as entries:
        for entry in entries:
            if entry.name.isdigit() and (use := parse_stat(entry.name, first_page(procfs / entry.name / "stat"))):
                yield use


def parse_stat(pid: str, stat: bytes) -> ProcessUse | None:
    """Return what a process uses; None for a file that is empty or of another form."""
    fields = stat[stat.rfind(b")") + 2 :].split()
    try:
        user, system, started, pages = (count(fields[place].decode()) for place in (_UTIME, _STIME, _STARTTIME, _RSS))
    except (ValueError, IndexError):
        return None
    return ProcessUse(int(pid), started, (user + system) / _TICKS_PER_SECOND, pages * _PAGE_BYTES)


def command_name(procfs: Path, pid: int) -> str:
    """Return the kernel's name of a process, of at most 15 bytes; '' where it has ended."""
    return first_page(procfs / str(pid) / "comm").decode("utf-8", "replace").strip()


def command_line(procfs: Path, pid: int) -> list[str]:
    """Return the start of a process' command line; [] where it has none or has ended."""
    words = first_page(procfs / str(pid) / "cmdline").decode("utf-8", "replace").split("\0")
    return [word for word in words if word]


def owner_id(procfs: Path, pid: int) -> int | None:
    """Return the number of the user whose process it is; None where it has ended."""
    try:
        return (procfs / str(pid)).stat().st_uid
    except OSError:
        return None
