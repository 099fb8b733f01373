"""The last finished requests, without their content."""

from __future__ import annotations

import time
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.requests.observation import OTHER_OPERATION

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelhost_exporter.requests.observation import RequestObservation

MAX_RECENT = 500
"""Finished requests that are kept."""


class RecentRequest(NamedTuple):
    """One finished request."""

    ended: float
    """When it was recorded, in seconds since 1970."""
    observed: RequestObservation


class RecentRequests:
    """The last finished requests: a request listener, read by any thread.

    A request that is not for inference, such as a list of models or a health check, is kept only if it failed: clients
    send those every few seconds.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        """Start without requests; ``now`` returns the seconds since 1970."""
        self._now = now
        self._is_on = True
        self._count = 0
        self._slots: list[tuple[int, float, RequestObservation] | None] = [None] * MAX_RECENT
        """The number of a request, when it was recorded, and the request."""

    def switch(self, *, on: bool) -> None:
        """Keep requests from now on, or forget them and keep none."""
        self._is_on = on
        if not on:
            self._slots = [None] * MAX_RECENT

    def add(self, observed: RequestObservation) -> None:
        """Keep a finished request in place of the oldest one; called by one thread at a time, without a lock."""
        if self._is_on and (observed.labels[2] != OTHER_OPERATION or observed.outcome != "ok"):
            number = self._count
            self._count = number + 1
            self._slots[number % MAX_RECENT] = number, self._now(), observed

    def newest_first(self) -> list[RecentRequest]:
        """Return the requests, those that were recorded last first."""
        slots = self._slots.copy()  # without a switch of threads
        kept = sorted((slot for slot in slots if slot is not None), key=itemgetter(0), reverse=True)
        return [RecentRequest(ended, observed) for _, ended, observed in kept]
