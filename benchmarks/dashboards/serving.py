"""A real Prometheus that serves a folder of blocks and scrapes nothing."""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from benchmarks.measuring import Program, free_port, listening

if TYPE_CHECKING:
    from collections.abc import Iterator

_START_SECONDS = 300.0
_RETENTION = "30d"  # as in docker-compose.yml
_QUIET_SECONDS = 90.0  # Prometheus looks for blocks to compact once a minute
_BUSY_SHARE = 0.02


@contextlib.contextmanager
def prometheus(data: Path, *flags: str) -> Iterator[Program]:
    """Start Prometheus on the blocks of a folder, with additional flags."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "prometheus.yml"
        settings.write_text("{}")
        port = free_port()
        command = [
            *("prometheus", f"--config.file={settings}", f"--storage.tsdb.path={data}"),
            *(f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn", *flags),
        ]
        with listening(command, port, "/-/ready", _START_SECONDS) as program:
            while not _is_ready(program):
                time.sleep(0.1)
            yield program


def address(program: Program) -> str:
    """Return the root of a program's URLs."""
    return f"http://{urlsplit(program.url).netloc}"


def settled(data: Path) -> Iterator[Program]:
    """Start Prometheus with its defaults and wait until it has compacted the blocks: until it is idle for a while."""
    with prometheus(data, f"--storage.tsdb.retention.time={_RETENTION}", "--query.timeout=10m") as program:
        _wait_until_idle(program)
        yield program


def _is_ready(program: Program) -> bool:
    connection = program.connect(10)
    connection.request("GET", program.path)
    ready = connection.getresponse().status == 200  # noqa: PLR2004 - OK
    connection.close()
    return ready


def _wait_until_idle(program: Program) -> None:
    idle_since, spent = time.monotonic(), program.cpu_seconds()
    while time.monotonic() - idle_since < _QUIET_SECONDS:
        time.sleep(5)
        now = program.cpu_seconds()
        if now - spent > 5 * _BUSY_SHARE:
            idle_since = time.monotonic()
        spent = now
