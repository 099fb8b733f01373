"""The phases of a cycle, which are the same in every cycle, so that measurements at its end are comparable."""

from __future__ import annotations

import time
from typing import NamedTuple


class Window(NamedTuple):
    """A part of a cycle, from one share of its length to another."""

    begin: float
    end: float

    def holds(self, share: float) -> bool:
        """Return whether a share of the cycle is in this part."""
        return self.begin <= share < self.end


BUSY = Window(0.03, 0.65)
"""Clients connect and disconnect; afterwards only scrapes and the two endless streams continue."""
FAULTS = (Window(0.08, 0.24), Window(0.24, 0.40), Window(0.40, 0.56))
"""Windows in which the engine and the GPUs have a fault."""
RELOADS = (0.2, 0.5)
"""Times of reloads: to another configuration at the first, back to the old one at the second."""
MEASURED = Window(0.94, 0.99)
"""Idle connections have ended by then (aiohttp keeps them for 15 s), in cycles of at least a minute."""


class Cycles:
    """Cycles of a length in seconds, from a time of the monotonic clock on."""

    def __init__(self, began: float, seconds: float) -> None:
        self.began = began
        self.seconds = seconds

    def moment(self, cycle: int, share: float) -> float:
        """Return the time at which a share of a cycle (numbered from 0) has passed."""
        return self.began + (cycle + share) * self.seconds

    def share(self) -> float:
        """Return the share of the current cycle that has passed."""
        return (time.monotonic() - self.began) / self.seconds % 1.0

    def fault(self) -> int | None:
        """Return the number of the current fault, from 0 on; None without one."""
        share = self.share()
        return next((number for number, window in enumerate(FAULTS) if window.holds(share)), None)
