"""Increases of counters and quantiles of histograms, computed like Prometheus does."""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def increase(values: Iterable[float | None]) -> float | None:
    """Return the increase of a counter from its first to its last value; a lower value is a reset to 0.

    Unknown values (None) are skipped. None with fewer than two values.
    """
    known = [value for value in values if value is not None]
    if len(known) < 2:  # noqa: PLR2004 - an increase has two ends
        return None
    return sum(after - before if after >= before else after for before, after in pairwise(known))


def quantile(wanted: float, bounds: Sequence[float], counts: Sequence[float]) -> float | None:
    """Return the quantile ``wanted`` (0 to 1) of a histogram; None when it is empty.

    ``counts`` are cumulative, one for each upper bound; the last bound is +Inf and the others are above 0. Values are
    assumed to be evenly spread in their bucket, and those in the last one to equal the highest finite bound.
    Source: histogram_quantile() of Prometheus.
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
