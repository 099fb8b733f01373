"""Common code of the benchmarks: start programs, read their resource usage, print a table."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from http.client import HTTPConnection
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import IO

ROOT = Path(__file__).resolve().parents[1]
EXPORTER = (sys.executable, "-m", "modelhost_exporter")

_START_SECONDS = 10.0
_STOP_SECONDS = 5.0
_POLL_SECONDS = 0.02


class CannotStart(Exception):
    """A program ended, or did not listen in time; the text contains its output."""


class Program:
    """A running program: the URL of its metrics, and its resource usage."""

    def __init__(self, process: psutil.Popen, url: str, log: IO[bytes]) -> None:
        self._process = process
        self._log = log
        self.url = url
        self.pid: int = process.pid

    def log(self) -> str:
        """Return the program's log."""
        return _text(self._log)

    def logged(self, message: str) -> dict[str, str]:
        """Return the fields of the first JSON line that this exporter logged with a message."""
        return next(entry for entry in _entries(self.log()) if entry.get("msg") == message)

    def cpu_seconds(self) -> float:
        """Return user and system time of the process since its start, ended threads included."""
        times = self._process.cpu_times()
        return times.user + times.system

    def resident_bytes(self) -> int:
        """Return the resident memory of the process."""
        return int(self._process.memory_info().rss)

    def connect(self, timeout_seconds: float) -> HTTPConnection:
        """Return a connection to the metrics' host, which opens with the first request."""
        return HTTPConnection(urlsplit(self.url).netloc, timeout=timeout_seconds)

    @property
    def path(self) -> str:
        """The path of the metrics."""
        return urlsplit(self.url).path


@contextlib.contextmanager
def exporter(
    *flags: str, environment: Mapping[str, str] | None = None, python: str = sys.executable
) -> Iterator[Program]:
    """Run the exporter of a Python's environment on a free port, with additional flags and environment variables."""
    command = [python, *EXPORTER[1:], "--web.listen-address=127.0.0.1:0", "--log.format=json", *flags]
    with _running(command, _logged_url, environment=environment) as program:
        yield program


@contextlib.contextmanager
def listening(
    command: Sequence[str], port: int, path: str = "/metrics", start_seconds: float = _START_SECONDS
) -> Iterator[Program]:
    """Run a program whose command makes it listen on ``port`` of 127.0.0.1."""

    def url(_log: str) -> str | None:
        return f"http://127.0.0.1:{port}{path}" if _accepts(port) else None

    with _running(command, url, start_seconds) as program:
        yield program


@contextlib.contextmanager
def _running(
    command: Sequence[str],
    find_url: Callable[[str], str | None],
    start_seconds: float = _START_SECONDS,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Program]:
    """Run a program for the duration of a context, which starts once ``find_url`` has found a URL in its log."""
    with tempfile.TemporaryFile() as log:
        env = {**os.environ, **(environment or {})}
        process = psutil.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=log, env=env)
        try:
            url = _wait_for_url(process, log, find_url, start_seconds)
            yield Program(process, url, log)
        finally:
            _stop(process)


def _wait_for_url(
    process: psutil.Popen, log: IO[bytes], find_url: Callable[[str], str | None], start_seconds: float
) -> str:
    deadline = time.monotonic() + start_seconds
    while True:
        ended = process.poll() is not None
        text = _text(log)
        url = None if ended else find_url(text)
        if url:
            return url
        if ended or time.monotonic() > deadline:
            raise CannotStart(f"{process.args[0]} {'ended' if ended else 'does not listen'}: {text.strip()}")
        time.sleep(_POLL_SECONDS)


def _text(log: IO[bytes]) -> str:
    """Return the log's contents without moving the file's offset, at which the program writes."""
    return os.pread(log.fileno(), os.fstat(log.fileno()).st_size, 0).decode(errors="replace")


def _logged_url(log: str) -> str | None:
    """Return the URL of this exporter's metrics once it has logged that it is ready."""
    entries = {entry.get("msg"): entry for entry in _entries(log)}
    return entries["listening"]["url"] if "ready" in entries else None


def _entries(log: str) -> Iterator[dict[str, str]]:
    """Yield the complete JSON lines."""
    for line in log.splitlines(keepends=True):
        if line.startswith("{") and line.endswith("\n"):
            yield json.loads(line)


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _stop(process: psutil.Popen) -> None:
    try:
        process.terminate()
        process.wait(_STOP_SECONDS)
    except psutil.NoSuchProcess:
        return
    except psutil.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """Return a free port of 127.0.0.1, for programs that cannot choose one themselves."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def version(*command: str) -> str:
    """Return the first line of the output of ``command --version``."""
    done = subprocess.run([*command, "--version"], cwd=ROOT, check=True, capture_output=True, text=True)
    return (done.stdout or done.stderr).splitlines()[0]


def event_loop() -> str:
    """Return the name of the event loop that the exporter uses here."""
    return f"uvloop {metadata.version('uvloop')}" if importlib.util.find_spec("uvloop") else "asyncio's event loop"


def machine() -> str:
    """Describe the machine and its software."""
    return f"{platform.system()} {platform.release()}, {platform.machine()}, {psutil.cpu_count()} CPUs"


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least ``percent`` of the values do not exceed (nearest rank)."""
    return sorted(values)[max(1, math.ceil(len(values) * percent / 100)) - 1]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Format rows as columns: the first left-aligned, the last unchanged, the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *middle, last = row
    cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(middle, widths[1:-1], strict=True))]
    return "  ".join([*cells, last]).rstrip()


def ratio(ours: float, theirs: float | None) -> str:
    """Return ``ours / theirs`` as text; '' without ``theirs``."""
    return f"{ours / theirs:.2f}" if theirs else ""


def verdict(*, reached: bool) -> str:
    """Return the mark of a figure that has a target, for a table."""
    return "PASS" if reached else "MISS"
