"""The watchdog: ping systemd while the event loop runs and a page is served over HTTP in time.

The exporter scrapes itself without any collector, so that a slow collector does not stop the pings.
"""

from __future__ import annotations

import errno
import http.client
import logging
import threading
import time
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlencode

from modelhost_exporter.logs.state_log import StateLog
from modelhost_exporter.process.daemon_thread import start

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

log = logging.getLogger(__name__)

_SHARE_OF_PERIOD = 0.9
_RETRY_SECONDS = 1.0
_NO_CONNECTION = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL)


class Check(Protocol):
    """A health check of the exporter."""

    def __call__(self, seconds: float) -> bool:
        """Return whether the check passes; blocks for at most this many seconds."""
        ...


class Watchdog:
    """Runs checks in its own thread and pings after each round in which all of them passed."""

    def __init__(self, ping: Callable[[], None], limit_seconds: float, checks: Iterable[Check]) -> None:
        """Prepare; the receiver expects a ping at least every ``limit_seconds``.

        One ping is sent in each half of that time, after the checks, which have nine tenths of the half.
        """
        self._ping = ping
        self._period = limit_seconds / 2
        self._checks = tuple(checks)
        self._stop = threading.Event()
        self._failing = StateLog(initial=False)

    def start(self) -> None:
        """Start the thread; raises RuntimeError when the machine has none left."""
        start(self._run, "watchdog")

    def stop(self) -> None:
        """End the thread after its current check."""
        self._stop.set()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            if self._passes(due + self._period * _SHARE_OF_PERIOD):
                self._ping()
            due = max(due + self._period, time.monotonic() - self._period)
            self._stop.wait(due - time.monotonic())

    def _passes(self, until: float) -> bool:
        """Return whether every check passed, after several attempts if necessary; log a change."""
        passed = self._attempt(until)
        while not passed and time.monotonic() + _RETRY_SECONDS < until and not self._stop.wait(_RETRY_SECONDS):
            passed = self._attempt(until)
        if not self._stop.is_set() and self._failing.changed(not passed):
            log.log(
                logging.INFO if passed else logging.ERROR,
                "the watchdog's checks pass again" if passed else "the watchdog's checks fail: no ping",
            )
        return passed

    def _attempt(self, until: float) -> bool:
        try:
            return all(check(max(0.0, until - time.monotonic())) for check in self._checks)
        except Exception:
            log.exception("a check of the watchdog failed")
            return False


class LoopTurns:
    """Passes when the event loop runs a callback in time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __call__(self, seconds: float) -> bool:
        """Return whether the callback ran in time."""
        turned = threading.Event()
        self._loop.call_soon_threadsafe(turned.set)
        return turned.wait(seconds)


class SelfScrape:
    """Passes when a page without collectors is served over HTTP.

    The connection is kept open, so that clients that exhaust descriptors or connections do not fail the check. A 503
    passes while other pages are rendered; so does a new connection that fails for lack of descriptors.
    """

    def __init__(
        self,
        connect: Callable[[], http.client.HTTPConnection],
        path: str,
        collectors: Callable[[], Iterable[str]],
        pages: Callable[[], int],
        page_seconds: Callable[[], float],
    ) -> None:
        """Prepare; ``connect`` opens a connection to the web port, ``collectors`` returns the enabled ones.

        ``pages`` returns the number of pages rendered so far, ``page_seconds`` the time limit of a page.
        """
        self._connect = connect
        self._path = path
        self._collectors = collectors
        self._pages = pages
        self._page_seconds = page_seconds
        self._last_pages = 0
        self._rendered = time.monotonic()
        self._connection: http.client.HTTPConnection | None = None

    def __call__(self, seconds: float) -> bool:
        """Scrape once; a kept connection that was closed meanwhile is opened again."""
        deadline = time.monotonic() + seconds
        kept = self._connection is not None
        try:
            try:
                status = self._status(seconds)
            except (http.client.HTTPException, ConnectionError):
                self._close()
                if not kept:
                    return False
                status = self._status(max(0.001, deadline - time.monotonic()))
        except (http.client.HTTPException, OSError) as error:
            self._close()
            return isinstance(error, OSError) and error.errno in _NO_CONNECTION
        return status == http.client.OK or (status == http.client.SERVICE_UNAVAILABLE and self._renders(seconds))

    def _renders(self, seconds: float) -> bool:
        """Return whether a page was rendered since the last check, or one in progress is still within its time."""
        now, pages = time.monotonic(), self._pages()
        if pages != self._last_pages:
            self._last_pages, self._rendered = pages, now
        return now - self._rendered <= self._page_seconds() + seconds

    def _status(self, seconds: float) -> int:
        if self._connection is None:
            self._connection = self._connect()
        connection = self._connection
        connection.timeout = seconds
        if connection.sock is not None:
            connection.sock.settimeout(seconds)
        query = urlencode([("exclude[]", name) for name in self._collectors()])
        connection.request("GET", f"{self._path}?{query}")
        response = connection.getresponse()
        response.read()
        return response.status

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
