"""File descriptors of this process: raise the limit, keep a reserve, detect and log shortages."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.metrics.families import counter, gauge

if sys.platform != "win32":  # which has no such limit
    import resource
from modelhost_exporter.logs.state_log import StateLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.metrics_core import Metric

log = logging.getLogger(__name__)

LIMIT = gauge(
    "process_descriptor_limit",
    "Limit on the exporter's open file descriptors, soft and hard.",
    "type",
    note="The soft limit is in force.",
)
SHORTAGES = counter(
    "process_descriptor_shortages",
    "Times that too few file descriptors were left to accept or to open a connection.",
    "operation",
)
FAMILIES = (LIMIT, SHORTAGES)

ACCEPT, CONNECT = "accept", "connect"
OPERATIONS = (ACCEPT, CONNECT)

MAX_LIMIT = 1 << 20
_LIMITS_OF_MACOS = (65_536, 10_240)  # kern.maxfilesperproc, OPEN_MAX: macOS rejects an unlimited soft limit
_RESERVE, _RESERVE_SHARE = 256, 4
_MEASURE_SECONDS, _WATCH_SECONDS, _QUIET_SECONDS = 1.0, 2.0, 60.0
_OPEN = "/dev/fd"
_OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})
_OUT_OF_RESOURCES = _OUT_OF_DESCRIPTORS | {errno.ENOBUFS, errno.ENOMEM}
_WAY_OUT = "raise it with ulimit -n, LimitNOFILE= (systemd) or --ulimit nofile= (Docker)"


class Limit(NamedTuple):
    """A limit on open file descriptors."""

    soft: int
    hard: int


def raise_limit() -> Limit | None:
    """Raise the soft limit to the hard limit, at most to 2^20, and return both; None on Windows, which has none."""
    if sys.platform == "win32":
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (MAX_LIMIT, *_LIMITS_OF_MACOS):
        target = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if soft == resource.RLIM_INFINITY or target <= soft:
            break
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
            break
    return Limit(*resource.getrlimit(resource.RLIMIT_NOFILE))


def open_standard_streams() -> None:
    """Open standard input, output and error on the null device if they are closed.

    Otherwise the next file or socket gets the number of a closed one, and libuv aborts when such a socket is closed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one


def is_shortage(error: BaseException) -> bool:
    """Return whether a call failed because the process or the system has no file descriptor left."""
    return isinstance(error, OSError) and error.errno in _OUT_OF_DESCRIPTORS


class Descriptors:
    """A reserve of file descriptors: proxied connections may not use it, web connections may use half of it.

    Connections are counted when they are opened and closed; other descriptors are counted on each scrape.
    """

    def __init__(self, limit: Limit | None = None, now: Callable[[], float] = time.monotonic) -> None:
        """Prepare; ``limit`` is None where the system has none."""
        self._limit = limit
        self._now = now
        self._soft = limit.soft if limit is not None and limit.soft > 0 else sys.maxsize
        self._reserve = min(_RESERVE, self._soft // _RESERVE_SHARE)
        self.connections = 0
        """Number of open connections."""
        self._others = 0
        self._measured = 0.0
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(OPERATIONS, 0)
        self._short = StateLog(initial=False)
        self._last_shortage = 0.0
        self._measure()

    def opened(self) -> None:
        """Count a connection."""
        self.connections += 1

    def closed(self) -> None:
        """Stop counting a connection."""
        self.connections -= 1

    def make_room(self, operation: str, close_one: Callable[[], bool], *, share: float = 1.0) -> bool:
        """Return whether a connection may stay, after ``close_one`` if less than ``share`` of the reserve is free."""
        allowed = self._soft - self._reserve * share
        if self.connections + self._others < allowed:
            return True
        if self.connections < allowed and self._now() - self._measured > _MEASURE_SECONDS:
            self._measure()
            if self.connections + self._others < allowed:
                return True
        self.note(operation)
        return close_one()

    def _measure(self) -> None:
        """Count the descriptors that are not connections."""
        if self._limit is None:
            return
        self._measured = self._now()
        connections = self.connections
        try:
            self._others = max(0, len(os.listdir(_OPEN)) - connections)  # noqa: PTH208 - only the number is needed
        except OSError:  # no descriptor is left to list them
            self._others = max(self._others, self._soft - connections)

    def note(self, operation: str) -> None:
        """Count a shortage; log the first one."""
        with self._lock:
            self._counts[operation] += 1
            self._last_shortage = self._now()
            is_new = self._short.changed(state=True)
        if is_new:
            fields = {"limit": self._soft, "operation": operation, "way_out": _WAY_OUT}
            log.warning("file descriptors are short", extra={"fields": fields})

    async def watch(self) -> None:
        """Detect shortages until cancelled: uvloop closes new connections without an error when none is left."""
        while self._limit is not None:
            await asyncio.sleep(_WATCH_SECONDS)
            try:
                os.close(os.open(os.devnull, os.O_RDONLY))
            except OSError as error:
                if is_shortage(error):
                    self.note(ACCEPT)

    def handle_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """Count an accept that failed for lack of descriptors, instead of logging each of many attempts a second."""
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _OUT_OF_RESOURCES and "accept" in str(context.get("message")):
            self.note(ACCEPT)
        else:
            loop.default_exception_handler(context)

    def collect(self) -> Iterator[Metric]:
        """Yield the limits and the number of shortages; measure again, and log the end of a shortage."""
        self._measure()
        self._note_end()
        if self._limit is not None:
            yield from LIMIT.by((((name,), value) for name, value in self._limit._asdict().items() if value > 0))
        yield from SHORTAGES.by((((operation,), count) for operation, count in self._counts.items()))

    def _note_end(self) -> None:
        """Log the end of a shortage once a minute has passed without another."""
        with self._lock:
            is_over = self._now() - self._last_shortage >= _QUIET_SECONDS and self._short.changed(state=False)
        if is_over:
            log.info("file descriptors are available again")
