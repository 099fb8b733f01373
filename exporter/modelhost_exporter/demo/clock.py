"""A clock that only advances when it is set."""

from __future__ import annotations


class SimulatedClock:
    """A clock in seconds since 1970 that never goes back."""

    def __init__(self, at: float) -> None:
        self._at = at

    def __call__(self) -> float:
        """Return the time."""
        return self._at

    def go_to(self, at: float) -> None:
        """Advance to a time; an earlier time changes nothing."""
        self._at = max(self._at, at)

    def spend(self, seconds: float) -> None:
        """Advance by ``seconds``."""
        self._at += seconds
