from __future__ import annotations

import errno
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from modelhost_exporter.metrics.exposition import TEXT
from modelhost_exporter.process.descriptors import ACCEPT, Descriptors, Limit, is_shortage
from tests.support.fakes import samples

if TYPE_CHECKING:
    import pytest


class Loop:
    """An event loop's default handler."""

    def __init__(self) -> None:
        self.reported: list[Any] = []

    def default_exception_handler(self, context: object) -> None:
        """Report an error."""
        self.reported.append(context)


def test_connections_may_not_use_the_reserve() -> None:
    """Within the reserve each new connection closes another; the web port may use half of the reserve."""
    descriptors = Descriptors(Limit(1024, 1024))
    closed: list[int] = []

    def close_one() -> bool:
        closed.append(1)
        return len(closed) < 3

    for _ in range(1024 - 256 - 100):
        descriptors.opened()
    assert descriptors.make_room(ACCEPT, close_one)
    assert not closed
    for _ in range(100):
        descriptors.opened()
    assert descriptors.make_room(ACCEPT, close_one, share=0.5)
    assert not closed
    assert [descriptors.make_room(ACCEPT, close_one) for _ in range(3)] == [True, True, False]
    for _ in range(200):
        descriptors.closed()
    assert descriptors.make_room(ACCEPT, close_one)
    assert len(closed) == 3


def test_a_shortage_is_logged_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    """A shortage is logged once, and its end after a minute without another."""
    caplog.set_level("INFO")
    now = [0.0]
    descriptors = Descriptors(Limit(1024, 4096), lambda: now[0])
    for _ in range(3):
        now[0] += 50
        descriptors.note(ACCEPT)
        list(descriptors.collect())
    assert [record.getMessage() for record in caplog.records] == ["file descriptors are short"]
    now[0] += 60
    for _ in range(2):
        list(descriptors.collect())
    assert [record.getMessage() for record in caplog.records][1:] == ["file descriptors are available again"]
    descriptors.note(ACCEPT)
    assert len(caplog.records) == 3


def test_both_limits_and_every_operation_are_on_the_page() -> None:
    """Shortages start at 0, so that rate() sees the first; limits are absent if there are none."""
    found = samples(TEXT.render(list(Descriptors(Limit(1024, -1)).collect())))
    assert found[("modelhost_process_descriptor_limit", (("type", "soft"),))] == 1024
    assert len(found) == 3
    assert len(samples(TEXT.render(list(Descriptors().collect())))) == 2


def test_only_an_accept_without_resources_is_filtered() -> None:
    """Every other error of the event loop is reported as before."""
    loop: Any = Loop()
    descriptors = Descriptors()
    accept = {"message": "socket.accept() out of system resource", "exception": OSError(errno.EMFILE, "")}
    others: list[dict[str, object]] = [
        {"message": "socket.accept() out of system resource", "exception": OSError(errno.EBADF, "")},
        {"message": "Exception in callback", "exception": OSError(errno.EMFILE, "")},
        {"message": "Task was destroyed but it is pending!"},
    ]
    for context in (accept, *others):
        descriptors.handle_loop_error(loop, context)
    assert loop.reported == others


def test_what_is_a_shortage() -> None:
    """Shortages of the process and of the system count; a refused connection does not."""
    assert is_shortage(OSError(errno.EMFILE, ""))
    assert is_shortage(OSError(errno.ENFILE, ""))
    assert not is_shortage(ConnectionRefusedError(errno.ECONNREFUSED, ""))
    assert not is_shortage(ValueError())


def test_closed_standard_streams_are_opened() -> None:
    """Closed standard streams are opened: libuv aborts when a socket with their number is closed."""
    code = """
import os, socket, sys
from modelhost_exporter.process.descriptors import open_standard_streams
for number in range(3):
    os.close(number)
open_standard_streams()
sys.exit(socket.socket().fileno() != 3)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
