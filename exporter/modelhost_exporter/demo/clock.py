"""A clock that stands still until it is moved."""

from __future__ import annotations


class SimulatedClock:
    """Seconds since 1970; never goes back."""

    def __init__(self, at: float) -> None:
        self._at = at

    def __call__(self) -> float:
        """Return the time."""
        return self._at

    def go_to(self, at: float) -> None:
        """Move on to a time; one that has passed already changes nothing."""
        self._at = max(self._at, at)

    def spend(self, seconds: float) -> None:
        """Let time pass while something is done."""
        self._at += seconds
