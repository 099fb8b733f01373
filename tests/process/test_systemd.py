"""Notifications for systemd over a real socket."""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.process.systemd import Systemd, from_environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """Give the address of a service manager's socket, and the socket."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@modelhost-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0" + address[1:] if address.startswith("@") else address)
        receiver.settimeout(10)
        yield address, receiver


def test_notifications_are_sent(manager: tuple[str, socket.socket]) -> None:
    """Each notification is one datagram; a reload has a time and an end, even if it fails."""
    address, receiver = manager
    systemd = Systemd(address)
    systemd.ready()
    systemd.ping()
    with pytest.raises(KeyError), systemd.reloading():
        raise KeyError
    systemd.stopping()
    received = [receiver.recv(4096).decode() for _ in range(5)]
    systemd.close()
    begin = received.pop(2)
    assert received == ["READY=1", "WATCHDOG=1", "READY=1", "STOPPING=1"]
    assert begin.startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert begin.rpartition("=")[2].isdecimal()


def test_a_manager_that_does_not_read_holds_up_nothing(
    manager: tuple[str, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    """Once its queue is full, or its socket gone, notifications are dropped, which is logged once."""
    address, receiver = manager
    systemd = Systemd(address)
    for _ in range(1000):
        systemd.ready()
    receiver.close()
    systemd.ping()
    systemd.close()
    assert [record.getMessage() for record in caplog.records] == ["systemd not notified"]


def test_a_ping_waits_for_a_manager_that_is_busy(manager: tuple[str, socket.socket]) -> None:
    """Ping retries while systemd does not read; a lost ping would restart a service that works."""
    address, receiver = manager
    systemd = Systemd(address)
    for _ in range(1000):
        systemd.ready()
    with ThreadPoolExecutor(1) as pool:
        pinged = pool.submit(systemd.ping)
        received = {receiver.recv(4096)}
        while b"WATCHDOG=1" not in received:
            received.add(receiver.recv(4096))
        pinged.result()
    systemd.close()


def test_without_a_manager_nothing_is_sent() -> None:
    """A missing address, or one without a socket on this machine, is no error."""
    for address in ("", "vsock:2:1234"):
        systemd = Systemd(address)
        systemd.ready()
        systemd.close()


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_variables_are_read_once(variables: dict[str, str], seconds: float | None) -> None:
    """The watchdog's time applies only to the process in WATCHDOG_PID, and child processes inherit nothing."""
    environment = {"NOTIFY_SOCKET": "", "PATH": "/bin", **variables}
    assert from_environment(environment).watchdog_seconds == seconds
    assert environment == {"PATH": "/bin"}
