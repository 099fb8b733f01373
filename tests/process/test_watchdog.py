"""The watchdog: it pings while all its checks pass."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from http.client import HTTPConnection
from typing import TYPE_CHECKING

from modelhost_exporter.process import daemon_thread
from modelhost_exporter.process.watchdog import LoopTurns, SelfScrape, Watchdog
from tests.support.programs import free_port, wait_until
from tests.support.stand_in import standing_in, status

if TYPE_CHECKING:
    import pytest

    from tests.support.stand_in import StandIn

PATH = "/metrics?exclude%5B%5D=cpu&exclude%5B%5D=load"


class Check:
    """A check that passes, fails or raises."""

    def __init__(self) -> None:
        self.passes = True
        self.raises = False
        self.count = 0

    def __call__(self, seconds: float) -> bool:
        """Return or raise the configured result."""
        assert seconds >= 0
        self.count += 1
        if self.raises:
            raise ValueError("broken check")
        return self.passes


def test_it_pings_while_all_checks_pass(caplog: pytest.LogCaptureFixture) -> None:
    """A check that fails or raises stops the pings and is logged once; pings resume when it passes."""
    good, other = Check(), Check()
    pings: list[int] = []
    watchdog = Watchdog(lambda: pings.append(1), 0.02, [good, other])
    watchdog.start()
    wait_until(lambda: len(pings) >= 3, "pings")
    other.passes = False
    settle(other)
    count = len(pings)
    settle(other)
    other.raises = True
    settle(other)
    assert len(pings) == count
    other.passes, other.raises = True, False
    wait_until(lambda: len(pings) > count, "pings go on")
    watchdog.stop()
    wait_until(lambda: "watchdog" not in daemon_thread.names(), "its thread has ended")
    messages = [record.message for record in caplog.records]
    assert messages.count("the watchdog's checks fail: no ping") == 1


def settle(check: Check) -> None:
    """Wait for a few more rounds."""
    count = check.count
    wait_until(lambda: check.count > count + 3, "rounds", every=0.005)


async def test_a_loop_that_turns_passes_and_one_that_blocks_does_not() -> None:
    """The check runs in a thread; a blocked loop fails it in time."""
    check = LoopTurns(asyncio.get_running_loop())
    assert await asyncio.to_thread(check, 10.0)
    outcome: list[bool] = []
    thread = threading.Thread(target=lambda: outcome.append(check(0.05)))
    thread.start()
    thread.join(10)  # the loop blocks meanwhile
    assert outcome == [False]


def self_scrape(server: StandIn, pages: list[int]) -> SelfScrape:
    """Return a self-scrape of a server in the exporter's place."""
    check = SelfScrape(
        partial(HTTPConnection, "127.0.0.1", server.port),
        "/metrics",
        lambda: ("cpu", "load"),
        lambda: pages[0],
        lambda: 0.0,
    )
    server.clients.append(check._close)
    return check


def test_a_page_that_is_served_passes() -> None:
    """The page without collectors is fetched over one connection, which is opened again after it was closed."""
    with standing_in({PATH: b"up 1\n"}) as server:
        check = self_scrape(server, [0])
        assert all(check(10) for _ in range(3))
        assert server.connections == 1
        assert check._connection is not None
        assert check._connection.sock is not None
        check._connection.sock.shutdown(2)
        assert check(10)
        assert server.connections == 2


def test_a_page_that_hangs_or_fails_does_not_pass() -> None:
    """A timeout, an error status and a port without a listener fail the check."""
    with standing_in({}) as server:
        check = self_scrape(server, [0])
        assert not check(10), "404"
        server.pages[PATH] = server.hang
        assert not check(0.05)
        server.pages[PATH] = b"up 1\n"
        assert check(10)
    assert not SelfScrape(
        partial(HTTPConnection, "127.0.0.1", free_port()), "/metrics", lambda: (), lambda: 0, lambda: 0.0
    )(10)


def test_a_page_refused_for_too_many_scrapes_passes_while_pages_are_rendered() -> None:
    """503 passes, because the process works, as long as the running scrapes end."""
    pages, page_seconds = [0], [60.0]
    with standing_in({PATH: status(503)}) as server:
        check = SelfScrape(
            partial(HTTPConnection, "127.0.0.1", server.port),
            "/metrics",
            lambda: ("cpu", "load"),
            lambda: pages[0],
            lambda: page_seconds[0],
        )
        server.clients.append(check._close)
        assert check(10), "a page may take a minute"
        page_seconds[0] = -10.0
        assert not check(10), "no page has come in time"
        pages[0] += 1
        assert check(10)
        assert not check(10)


def test_without_a_descriptor_for_a_connection_it_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """EMFILE passes: clients cause it, and a restart would end their requests."""

    def full(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("socket.create_connection", full)
    assert SelfScrape(partial(HTTPConnection, "127.0.0.1", 1), "/metrics", lambda: (), lambda: 0, lambda: 0.0)(10)
