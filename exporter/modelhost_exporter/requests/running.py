"""The requests in progress."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelhost_exporter.requests.observation import RequestLabels


class RunningRequest(NamedTuple):
    """One request in progress."""

    labels: RequestLabels
    """As far as they are known."""
    state: str
    """waiting, streaming or blocking, as in the metric of requests in flight."""
    seconds: float
    """How long it has been in progress."""
    client: str | None = None
    """As in ``RequestObservation``."""


class RunningRequests:
    """The requests in progress, bounded by the connections of clients; changed by one thread, read by any."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without requests; ``clock`` is monotonic."""
        self._clock = clock
        self._running: dict[object, tuple[RequestLabels, str, float, str | None]] = {}

    def enter(self, request: object, labels: RequestLabels, state: str, client: str | None = None) -> None:
        """Add a request, or change its labels and state; ``request`` is any object that identifies it."""
        before = self._running.get(request)
        self._running[request] = (labels, state, self._clock() if before is None else before[2], client)

    def leave(self, request: object) -> None:
        """Remove a request."""
        self._running.pop(request, None)

    def longest_first(self) -> list[RunningRequest]:
        """Return the requests in progress, those that take longest first."""
        now = self._clock()
        running = self._running.copy().values()  # copied without a switch of threads
        return [RunningRequest(labels, state, now - started, client) for labels, state, started, client in running]
