"""Start programs, wait until they respond, and stop all of them in order, also after an error."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

READY_SECONDS = 60.0
_STOP_SECONDS = 15.0
_POLL_SECONDS = 0.1
_LAST_LINES = 15


class StackError(Exception):
    """The stack cannot run; the text is for the user."""


@dataclass(frozen=True)
class Program:
    """A program: its command, its address, and a URL that responds once it is ready."""

    name: str
    command: Sequence[str | Path]
    address: tuple[str, int]
    ready_url: str
    environment: Mapping[str, str] = field(default_factory=dict)


class Running:
    """A context of started programs, which are stopped at its end, the last one first."""

    def __init__(self, logs: Path, stopped: Callable[[], bool], stop_seconds: float = _STOP_SECONDS) -> None:
        """Write each program's output to ``logs``; ``stopped`` returns whether the user wants to stop.

        Programs that have not ended ``stop_seconds`` after SIGTERM are killed.
        """
        self._stop_seconds = stop_seconds
        self._logs = logs
        self._stopped = stopped
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes.values()):
            process.terminate()
        end = time.monotonic() + self._stop_seconds
        for process in self._processes.values():
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start(self, program: Program) -> None:
        """Start a program; raises StackError when its port is in use or it cannot be executed."""
        _check_free(program)
        with (self._logs / f"{program.name}.log").open("wb") as log:
            try:
                self._processes[program.name] = subprocess.Popen(  # noqa: S603 - the stack's own programs
                    [str(word) for word in program.command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **program.environment},
                    start_new_session=True,  # Ctrl-C reaches the stack only, which then stops programs in order
                )
            except OSError as error:
                raise StackError(f"{program.name}: {error}") from error

    def wait_until_ready(self, program: Program, seconds: float = READY_SECONDS) -> None:
        """Wait until a program responds; raises StackError when it ends, or after ``seconds``."""
        end = time.monotonic() + seconds
        while not self._stopped() and not _answers(program.ready_url):
            self.check()
            if time.monotonic() > end:
                raise StackError(f"{program.name} does not answer at {program.ready_url}{self._said(program.name)}")
            time.sleep(_POLL_SECONDS)

    def watch(self) -> None:
        """Wait until the user stops the stack; raises StackError when a program ends by itself."""
        while not self._stopped():
            self.check()
            time.sleep(_POLL_SECONDS)

    def check(self) -> None:
        """Raise StackError when a program has ended."""
        for name, process in self._processes.items():
            if process.poll() is not None and not self._stopped():
                raise StackError(f"{name} ended with exit code {process.returncode}{self._said(name)}")

    def _said(self, name: str) -> str:
        path = self._logs / f"{name}.log"
        lines = path.read_text(errors="replace").splitlines()[-_LAST_LINES:]
        return "".join(f"\n    {line}" for line in [f"the end of {path}:", *lines])


def _check_free(program: Program) -> None:
    """Raise StackError when a program's port is in use; its own error would only be in its log."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(program.address)
        except OSError as error:
            host, port = program.address
            raise StackError(
                f"{program.name}: {host}:{port} is in use; choose another port with --{program.name}-port"
            ) from error


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - our own loopback address
            return True
    except OSError:
        return False
