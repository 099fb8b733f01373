"""Load a library in a child process, to detect whether loading it crashes or hangs."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

DEADLINE_SECONDS = 5.0
_KILL_SECONDS = 1.0
# The alarm ends a child whose parent has ended meanwhile. The limit prevents a core file after a crash.
_PROGRAM = """
import ctypes, resource, signal, sys
signal.alarm(int(sys.argv[2]))
resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
try:
    ctypes.CDLL(sys.argv[1])
except OSError as error:
    sys.stderr.write(str(error)[:500])
    sys.exit(int(sys.argv[3]))
"""
_NOT_LOADED = 70
_CRASHES = frozenset({signal.SIGBUS, signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP})
"""Signals that a library's own fault causes. Others come from outside: no memory (SIGKILL), no permission (SIGSYS)."""


def attempt(path: Path, deadline_seconds: float = DEADLINE_SECONDS) -> str:
    """Load a library in a child process; return why that fails, '' when it succeeds.

    Also '' where no child process can run Python: then the check of the library's headers has to suffice.
    """
    if getattr(sys, "frozen", False) or not sys.executable:
        return ""
    alarm = int(deadline_seconds) + 1
    try:
        child = subprocess.Popen(  # noqa: S603 - this interpreter
            [sys.executable, "-I", "-S", "-c", _PROGRAM, str(path), str(alarm), str(_NOT_LOADED)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
    except (OSError, ValueError):
        return ""
    try:
        _, error = child.communicate(timeout=deadline_seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # a child that hangs in the kernel cannot be killed
            child.wait(_KILL_SECONDS)
        return f"loading does not finish within {deadline_seconds:g} s"
    finally:
        if child.stderr is not None:
            child.stderr.close()
    if -child.returncode in _CRASHES:
        return f"loading crashes with {signal.Signals(-child.returncode).name}"
    return (error.decode(errors="replace").strip() or "it cannot be loaded") if child.returncode == _NOT_LOADED else ""
