"""Rises of counters and quantiles of histograms, computed as Prometheus does."""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def increase(values: Iterable[float | None]) -> float | None:
    """Return how much a counter rose from its first to its last value; one that fell started again at 0.

    None where there are no two values; those that are missing (None) are passed over.
    """
    known = [value for value in values if value is not None]
    if len(known) < 2:  # noqa: PLR2004 - a rise has two ends
        return None
    return sum(after - before if after >= before else after for before, after in pairwise(known))


def quantile(wanted: float, bounds: Sequence[float], counts: Sequence[float]) -> float | None:
    """Return the value that a share ``wanted`` of what a histogram counted does not exceed; None when it is empty.

    ``counts`` are cumulative, one for each upper bound, the last bound +Inf. Within a bucket values are taken as evenly
    spread, and beyond the last finite bound as that bound: histogram_quantile(), for bounds above 0.
    """
    total = counts[-1] if counts else 0.0
    if total <= 0:
        return None
    rank = wanted * total
    index = bisect_left(counts, rank, 0, len(counts) - 1)
    if index == len(counts) - 1:
        return bounds[-2]
    start, below = (bounds[index - 1], counts[index - 1]) if index else (0.0, 0.0)
    return start + (bounds[index] - start) * ((rank - below) / (counts[index] - below))
