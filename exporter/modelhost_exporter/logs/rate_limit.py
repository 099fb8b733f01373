"""Limit repeated log lines to a few a minute, with the number of suppressed ones."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

PERIOD_SECONDS = 60.0


@dataclass
class _Period:
    """The lines of one key since ``began``."""

    began: float
    passed: int = 0
    suppressed: int = 0


class LineLimit:
    """A limit of ``max_lines`` a minute for each key; a minute starts with the first line after the previous minute."""

    def __init__(self, max_lines: int, now: Callable[[], float] = time.monotonic) -> None:
        """Prepare; ``now`` is a clock in seconds."""
        self._max_lines = max_lines
        self._now = now
        self._lock = threading.RLock()  # reentrant: a finalizer may log while this thread holds it
        self._periods: dict[Hashable, _Period] = {}

    def pass_line(self, key: Hashable = None) -> int | None:
        """Return None to suppress this line, else the number of lines suppressed in the previous minute.

        The number is returned once, for the first line of a minute; for the other lines that pass it is 0.
        """
        with self._lock:
            now, suppressed = self._now(), 0
            period = self._periods.setdefault(key, _Period(now))
            if now - period.began >= PERIOD_SECONDS:
                suppressed = period.suppressed
                period.began, period.passed, period.suppressed = now, 0, 0
            if period.passed >= self._max_lines:
                period.suppressed += 1
                return None
            period.passed += 1
            return suppressed
