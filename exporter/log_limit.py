"""Limit log lines that a client, a server or a broken library can cause again and again."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp.http import HttpProcessingError

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

PERIOD_SECONDS = 60.0
MAX_PER_PERIOD = 3

_OWN = "exporter"


@dataclass
class _Period:
    """The lines of one place in the code since ``began``."""

    began: float
    passed: int = 0
    suppressed: int = 0


class LogLimit:
    """A filter for handlers: at most three lines a minute from each place of a library, and of each traceback.

    The exporter's own lines without a traceback pass: they are logged once per change. A request that is no HTTP is its
    client's mistake and passes at level debug only. The first line of the next minute holds the number of those that
    were suppressed, in the field ``suppressed``.
    """

    def __init__(self, *, debug: bool = False, now: Callable[[], float] = time.monotonic) -> None:
        self._debug = debug
        self._now = now
        self._lock = threading.RLock()  # a finalizer may log while this one holds it
        self._periods: dict[tuple[object, ...], _Period] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line is written."""
        error = record.exc_info[1] if record.exc_info else None
        is_own = record.name.partition(".")[0] == _OWN
        if is_own and error is None:
            return True
        if not is_own and isinstance(error, HttpProcessingError) and not self._debug:
            return False
        return self._passes(record, (record.name, record.pathname, record.lineno, type(error)))

    def _passes(self, record: logging.LogRecord, place: tuple[object, ...]) -> bool:
        with self._lock:
            now = self._now()
            period = self._periods.setdefault(place, _Period(now))
            if now - period.began >= PERIOD_SECONDS:
                if period.suppressed:
                    record.__dict__["fields"] = {**getattr(record, "fields", {}), "suppressed": period.suppressed}
                period.began, period.passed, period.suppressed = now, 0, 0
            if period.passed >= MAX_PER_PERIOD:
                period.suppressed += 1
                return False
            period.passed += 1
            return True
