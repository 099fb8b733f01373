"""How exact a median is that Prometheus computes from the buckets of a histogram."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def largest_median_error(bounds: Sequence[float], low: float = 0.0, high: float = math.inf) -> float:
    """Return the largest error of a median that Prometheus computes from these buckets, as a ratio of that median.

    It is half of a bucket's width over its middle: the truth when all requests take the time of one of its bounds.
    Only buckets that reach into the range from ``low`` to ``high`` (seconds) count, and none before the first bound.
    """
    buckets = [(lower, upper) for lower, upper in itertools.pairwise(bounds) if lower < high and upper > low]
    return max((upper - lower) / (upper + lower) for lower, upper in buckets)
