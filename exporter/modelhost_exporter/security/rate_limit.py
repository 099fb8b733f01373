"""A token bucket: at most one request per interval, and a burst of more after a pause."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelhost_exporter.security.authentication import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

TOO_MANY_REQUESTS = 429


@dataclass(frozen=True)
class RateLimit:
    """The settings of a bucket."""

    interval: float = 0.0
    """Seconds in which one request is allowed; 0 or less: no limit."""
    burst: int = 0
    """Requests that are allowed at once after a pause; 0 allows none at all."""


class TokenBucket:
    """The requests that are allowed now. All clients share them."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._settings = RateLimit()
        self._tokens = 0.0
        self._filled = 0.0

    def check(self, settings: RateLimit) -> Refusal | None:
        """Take a token; return the refusal if there is none. Other settings than the last ones fill the bucket."""
        if settings.interval <= 0:
            return None
        now = self._now()
        if settings != self._settings:
            self._settings, self._tokens, self._filled = settings, float(settings.burst), now
        grown = self._tokens + max(0.0, now - self._filled) / settings.interval
        self._tokens, self._filled = min(float(settings.burst), grown), now
        if self._tokens < 1:
            wait = (1 - self._tokens) * settings.interval if settings.burst else settings.interval
            return Refusal("too many requests (rate_limit)", TOO_MANY_REQUESTS, retry_after=wait)
        self._tokens -= 1
        return None
