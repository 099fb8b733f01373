"""The mean of what was measured piece by piece, over a stretch of time that does not depend on who reads how often."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

WINDOW_SECONDS = 10.0


class _Piece(NamedTuple):
    seconds: float
    means: Mapping[int, float]


class RecentMean:
    """Means over the last ten seconds, or over the last piece where that is longer.

    A reader that comes every 15 s gets the mean since its last reading. Where others read in between, such as every
    two seconds, it does not get the mean of the last two seconds only.
    """

    def __init__(self) -> None:
        self._pieces: deque[_Piece] = deque()
        self._means: dict[int, float] = {}

    def add(self, seconds: float, means: Mapping[int, float]) -> None:
        """Add the means, by metric, of the ``seconds`` since the piece before."""
        self._pieces.append(_Piece(seconds, means))
        covered = sum(piece.seconds for piece in self._pieces)
        while covered - self._pieces[0].seconds >= WINDOW_SECONDS:
            covered -= self._pieces.popleft().seconds
        self._means = {metric: self._mean(metric) for metric in means}

    def clear(self) -> None:
        """Forget everything: what comes next does not join on to it."""
        self._pieces.clear()
        self._means = {}

    def means(self) -> dict[int, float]:
        """Return the mean by metric, each piece weighing what it lasted; only metrics that the last piece has."""
        return self._means

    def _mean(self, metric: int) -> float:
        pieces = [piece for piece in self._pieces if metric in piece.means]
        return sum(piece.seconds * piece.means[metric] for piece in pieces) / sum(piece.seconds for piece in pieces)
