"""Limit log lines that a client, a server or a faulty library can cause repeatedly."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from aiohttp.http import HttpProcessingError

from modelhost_exporter.logs.rate_limit import LineLimit

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

MAX_PER_PERIOD = 3

_OWN = "modelhost_exporter"


class LogLimit:
    """A logging filter that passes at most three lines a minute from each call site of a library.

    The exporter's own lines pass, since they are logged once per change; those with a traceback are limited too. Errors
    about requests that are not HTTP pass at level debug only. The first line of the next minute has the number of
    suppressed ones in the field ``suppressed``.
    """

    def __init__(self, *, debug: bool = False, now: Callable[[], float] = time.monotonic) -> None:
        self._debug = debug
        self._limit = LineLimit(MAX_PER_PERIOD, now)

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
        suppressed = self._limit.pass_line(place)
        if suppressed:
            record.__dict__["fields"] = {**getattr(record, "fields", {}), "suppressed": suppressed}
        return suppressed is not None
