"""The phases of one cycle, the same in every cycle: what is measured at its end is comparable."""

from __future__ import annotations

import time
from typing import NamedTuple


class Window(NamedTuple):
    """A part of a cycle, from and to a share of its length."""

    begin: float
    end: float

    def holds(self, share: float) -> bool:
        """Return whether a moment of the cycle is in this part."""
        return self.begin <= share < self.end


BUSY = Window(0.03, 0.65)
"""Clients come and go; afterwards only scrapes and the two endless streams go on."""
FAULTS = (Window(0.08, 0.24), Window(0.24, 0.40), Window(0.40, 0.56))
"""The engine and the GPUs have a fault in each, and none otherwise."""
RELOADS = (0.2, 0.5)
"""The configuration is replaced at the first, and is the old one again from the second on."""
MEASURED = Window(0.94, 0.99)
"""Connections that were kept open have ended (aiohttp keeps them for 15 s): cycles of a minute are long enough."""


class Cycles:
    """Cycles of a length in seconds, from a moment of the monotonic clock on."""

    def __init__(self, began: float, seconds: float) -> None:
        self.began = began
        self.seconds = seconds

    def moment(self, cycle: int, share: float) -> float:
        """Return when a share of a cycle (from 0 on) has passed."""
        return self.began + (cycle + share) * self.seconds

    def share(self) -> float:
        """Return the share of the current cycle that has passed."""
        return (time.monotonic() - self.began) / self.seconds % 1.0

    def fault(self) -> int | None:
        """Return which fault there is now, from 0 on; None for none."""
        share = self.share()
        return next((number for number, window in enumerate(FAULTS) if window.holds(share)), None)
