"""The mean of successive measurements, over a time that does not depend on how often they are read."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

WINDOW_SECONDS = 10.0


class _Measurement(NamedTuple):
    seconds: float
    means: Mapping[int, float]


class RecentMean:
    """Means over the last ten seconds, or over the last measurement where that is longer.

    With one reader every 15 s, each reading is the mean of those 15 s. With another reader every two seconds, readings
    still cover ten seconds instead of two.
    """

    def __init__(self) -> None:
        self._measurements: deque[_Measurement] = deque()
        self._means: dict[int, float] = {}

    def add(self, seconds: float, means: Mapping[int, float]) -> None:
        """Add a measurement: the means, by metric, of the ``seconds`` since the one before."""
        self._measurements.append(_Measurement(seconds, means))
        covered = sum(measurement.seconds for measurement in self._measurements)
        while covered - self._measurements[0].seconds >= WINDOW_SECONDS:
            covered -= self._measurements.popleft().seconds
        self._means = {metric: self._mean(metric) for metric in means}

    def clear(self) -> None:
        """Discard all measurements: the next one does not follow on from them."""
        self._measurements.clear()
        self._means = {}

    def means(self) -> dict[int, float]:
        """Return the mean by metric, weighted by duration, of the metrics in the last measurement."""
        return self._means

    def _mean(self, metric: int) -> float:
        means = [(seconds, means[metric]) for seconds, means in self._measurements if metric in means]
        return sum(seconds * mean for seconds, mean in means) / sum(seconds for seconds, _ in means)
