"""The time in which a GPU was awake, from the kernel's counters of idle time.

It is coarser than the time in which kernels ran: a GPU that waits for the next one within milliseconds stays awake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MIN_SECONDS = 0.2
"""Shortest time between two readings that are compared: the counters have steps of a millisecond or more."""


class _Reading(NamedTuple):
    at: float
    idle: Mapping[str, float]
    powered: float | None


class AwakeTime:
    """Adds up the time in which any part of one GPU was awake."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Start without a reading; ``clock`` is monotonic, in seconds."""
        self._clock = clock
        self._last: _Reading | None = None
        self.share: float | None = None
        """Share of the time between the last two readings; None where it is not known."""
        self.seconds: float | None = None
        """Sum since the first reading; None without counters."""

    def note(self, idle: Mapping[str, float], powered: float | None) -> None:
        """Add what passed since the last reading.

        ``idle`` are seconds by part of the GPU; ``powered`` is the time in which the system had not suspended it,
        where that is known: the counters stand still meanwhile.
        """
        now = _Reading(self._clock(), idle, powered)
        if not idle:
            self._last = self.share = None
            return
        self.seconds = self.seconds or 0.0
        if self._last is None:
            self._last = now
            return
        elapsed = now.at - self._last.at
        if elapsed >= _MIN_SECONDS:
            awake = _awake_seconds(self._last, now)
            self.share = None if awake is None else awake / elapsed
            self.seconds += awake or 0.0
            self._last = now


def _awake_seconds(last: _Reading, now: _Reading) -> float | None:
    """Return the seconds in which the part that was awake longest was; None if no counter went on."""
    elapsed = now.at - last.at
    if now.powered and last.powered is not None and now.powered >= last.powered:
        elapsed = min(elapsed, now.powered - last.powered)
    idle = [now.idle[part] - before for part, before in last.idle.items() if now.idle.get(part, -1.0) >= before]
    return max(0.0, elapsed - min(idle)) if idle else None
