"""Notifications of the real program to systemd: ready, pings while it works, reloads and the stop."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.programs import Program, fetch, installed, running, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import StartExporter

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy/systemd/modelhost-exporter.service"
WATCHDOG_SECONDS = 0.4


class Manager:
    """A service manager's socket, which records its messages."""

    def __init__(self, path: Path) -> None:
        self.received: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def _receive(self) -> None:
        while (message := self._socket.recv(4096)) != b"END":
            self.received.append(message.decode())

    @property
    def pings(self) -> int:
        """The number of pings so far."""
        return self.received.count("WATCHDOG=1")

    def close(self) -> None:
        """Stop receiving."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"END", self._socket.getsockname())
        self._thread.join(10)
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """Return a service manager with a watchdog, to which the programs of this test report."""
    manager = Manager(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", str(int(WATCHDOG_SECONDS * 1e6)))
    yield manager
    manager.close()


def test_a_healthy_program_reports_itself(start_exporter: StartExporter, manager: Manager) -> None:
    """READY once it listens, pings, a reload between RELOADING and READY, STOPPING at its end."""
    exporter = start_exporter()
    wait_until(lambda: manager.pings >= 3, "pings")
    exporter.process.send_signal(signal.SIGHUP)
    exporter.wait_for_message("configuration reloaded")
    wait_until(lambda: manager.received.count("READY=1") == 2, "the reload is over")
    exporter.stop()
    wait_until(lambda: manager.received[-1] == "STOPPING=1", "it stops")
    others = [message for message in manager.received if message != "WATCHDOG=1"]
    assert [message.partition("\n")[0] for message in others] == ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]


def test_a_hung_collector_is_no_reason_to_restart(
    start_exporter: StartExporter, manager: Manager, tmp_path: Path
) -> None:
    """A collector that hangs for longer than the watchdog's time, in continuous scrapes, stops no ping."""
    (tmp_path / "pressure").mkdir()
    os.mkfifo(tmp_path / "pressure/cpu")
    exporter = start_exporter(f"--path.procfs={tmp_path}", "--scrape.timeout=1s", "--web.max-requests=1")
    scraping = threading.Thread(target=scrape_often, args=[exporter.url])
    scraping.start()
    count = manager.pings
    wait_until(lambda: manager.pings >= count + 10, "pings go on")
    scraping.join(20)
    assert "checks fail" not in exporter.output()


def scrape_often(url: str) -> None:
    """Scrape several times, and accept errors."""
    for _ in range(4):
        with contextlib.suppress(OSError):
            fetch(url)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2], ids=["page", "event loop"])
def test_a_wedged_program_is_silent(manager: Manager, number: signal.Signals) -> None:
    """No ping is sent once the page hangs or the event loop blocks, though the process is alive."""
    with running(Program([sys.executable, "-m", "tests.faults.wedged", "6"])) as program:
        program.wait_for_line(lambda line: '"msg": "ready"' in line)
        wait_until(lambda: manager.pings >= 3, "pings")
        program.process.send_signal(number)
        program.wait_for_line(lambda line: "the watchdog's checks fail: no ping" in line)
        count = manager.pings
        quiet = threading.Event()
        assert not quiet.wait(3 * WATCHDOG_SECONDS)
        assert manager.pings == count
        assert program.process.poll() is None
        program.process.kill()


def test_the_unit_file_is_valid(tmp_path: Path) -> None:
    """systemd-analyze reports no problem with the unit, and a low exposure."""
    analyze = installed("systemd-analyze")
    unit = tmp_path / UNIT.name
    text = UNIT.read_text()
    program = next(line for line in text.splitlines() if line.startswith("ExecStart=")).split()[0].partition("=")[2]
    unit.write_text(text.replace(program, shutil.which("true") or "/bin/true"))
    verified = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, check=False)
    assert UNIT.name not in verified.stderr + verified.stdout
    assert verified.returncode == 0
    secure = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=30", unit], capture_output=True, text=True, check=False
    )
    assert secure.returncode == 0, secure.stdout
