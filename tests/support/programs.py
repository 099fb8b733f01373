"""Start real programs for a test, wait for their log lines, and stop them."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_GRACE_SECONDS = 2.0
DEADLINE_SECONDS = 20.0


class Program:
    """A running program whose standard error is read line by line as it comes."""

    def __init__(self, command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
        )
        self._follow()

    def _follow(self) -> None:
        """Read what the process prints."""
        self.lines: list[str] = []
        self._unread: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            self._unread.put(line)
        self._unread.put(None)

    def wait_for_line(self, wanted: Callable[[str], bool]) -> str:
        """Return the next line that matches; fails the test if the program ends, or prints nothing for too long."""
        end = time.monotonic() + DEADLINE_SECONDS
        while True:
            try:
                line = self._unread.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                line = None
            if line is None:
                pytest.fail(f"{self.process.args!r} did not print the expected line:\n{self.output()}")
            if wanted(line):
                return line

    def output(self) -> str:
        """Return everything printed so far."""
        return "".join(self.lines)

    def stop(self, number: int = signal.SIGTERM) -> float:
        """Send a signal and return the seconds until the program had ended."""
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(DEADLINE_SECONDS)
        self._reader.join(DEADLINE_SECONDS)
        return time.monotonic() - began

    def close(self) -> None:
        """End the program, whatever state it is in."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_GRACE_SECONDS)
            self.process.terminate()  # what it waits for, such as a stream through the proxy, is ended by a second one
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(DEADLINE_SECONDS)
            self.process.kill()
        self.process.wait()
        self._reader.join(DEADLINE_SECONDS)
        assert self.process.stderr is not None
        self.process.stderr.close()


# tests in parallel would find one another's engines
_OF_TESTS = ("--web.listen-address=127.0.0.1:0", "--log.format=json", "--no-discovery")


class Exporter(Program):
    """The real exporter in a process of its own, on a free port; ``under`` is the command that runs it, if any."""

    command: tuple[str, ...] = (sys.executable, "-m", "modelhost_exporter")

    def __init__(self, *arguments: str, under: Sequence[str] = ()) -> None:
        super().__init__([*under, *self.command, *_OF_TESTS, *arguments])
        self.url: str = self.wait_for_message("listening")["url"]
        """Where the metrics are."""
        self.wait_for_message("ready")

    def wait_for_message(self, message: str) -> dict[str, Any]:
        """Return the fields of the next log line with this message."""
        fields: dict[str, Any] = json.loads(self.wait_for_line(lambda line: f'"msg": "{message}"' in line))
        return fields

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return self.url.partition("://")[2].partition("/")[0]

    def page(self, query: str = "") -> bytes:
        """Return the metrics as text."""
        return fetch(self.url + query)


def fetch(request: str | urllib.request.Request) -> bytes:
    """Return the response body of one of the test's own servers; HTTPError (an OSError) for an error status."""
    with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS) as response:  # noqa: S310 - our own server
        body: bytes = response.read()
        return body


@contextlib.contextmanager
def running(program: Program) -> Iterator[Program]:
    """Close the program at the end; print its output when the test fails."""
    try:
        yield program
    except BaseException:
        print(program.output())  # noqa: T201 - pytest shows it with the failure
        raise
    finally:
        program.close()


def free_port() -> int:
    """Return a port that is free now, for programs that cannot choose one themselves."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def wait_until(
    condition: Callable[[], bool], what: str, every: float = 0.05, seconds: float = DEADLINE_SECONDS
) -> None:
    """Return when the condition holds; fails the test when it does not in time."""
    end = time.monotonic() + seconds
    tick = threading.Event()
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not in time: {what}")
        tick.wait(every)


def installed(*names: str) -> str:
    """Return the path of the first program that is installed; skips the test (in CI: fails it) when none is."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    found = next((found for name in names if (found := shutil.which(name, path=path))), None)
    return found or missing(f"{names[0]} is not installed")


def built(name: str) -> str:
    """Return the path of a program that .ci/need-go has built; skips the test where it has not, in CI too."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    found = cache / "modelhost-go-programs" / "bin" / name
    if not found.exists():
        pytest.skip(f"{name} is not built: `make test-rules` builds it where Go is installed")
    return str(found)


def missing(what: str) -> NoReturn:
    """Skip the test, because something that it needs is missing; in CI fail it."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(what)
