"""Limits of a running process: no further thread, no further memory."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.programs import installed, missing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.programs import Program


def as_a_limited_user() -> list[str]:
    """Return the command that runs a program as a user whose threads can be limited: the kernel exempts root."""
    if os.geteuid() != 0:
        return []
    uid = str(200_000 + os.getpid())  # of its own: the limit counts all threads of a user
    under = [installed("setpriv"), f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    works = subprocess.run(
        [*under, sys.executable, "-c", "import modelhost_exporter.cli"], capture_output=True, check=False
    )
    if works.returncode != 0:
        missing("another user may not run this Python")
    return under


@contextlib.contextmanager
def limited(program: Program, kind: str, limit: int, under: Sequence[str] = ()) -> Iterator[None]:
    """Lower a soft limit of a program that runs under a command (``kind`` as prlimit calls it), and raise it again."""
    prlimit = [*under, installed("prlimit"), f"--pid={program.process.pid}"]  # as its user, who may do so
    shown = subprocess.run(
        [*prlimit, f"--{kind}", "--noheadings", "--raw", "--output=SOFT"], capture_output=True, text=True, check=True
    )
    subprocess.run([*prlimit, f"--{kind}={limit}:"], check=True)
    try:
        yield
    finally:
        if program.process.poll() is None:
            subprocess.run([*prlimit, f"--{kind}={shown.stdout.strip()}:"], check=True)


def without_new_threads(program: Program, under: Sequence[str]) -> contextlib.AbstractContextManager[None]:
    """Let a program that runs ``as_a_limited_user`` start no thread meanwhile."""
    return limited(program, "nproc", 1, under)


@contextlib.contextmanager
def readable_folder() -> Iterator[Path]:
    """Create a folder that every user may read."""
    folder = Path(tempfile.mkdtemp(prefix="modelhost-test-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
