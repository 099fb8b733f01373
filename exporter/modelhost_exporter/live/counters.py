"""Increases of counters, computed like Prometheus does."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def increase(values: Iterable[float | None]) -> float | None:
    """Return the increase of a counter from its first to its last value; a lower value is a reset to 0.

    Unknown values (None) are skipped. None with fewer than two values.
    """
    known = [value for value in values if value is not None]
    if len(known) < 2:  # noqa: PLR2004 - an increase has two ends
        return None
    return sum(after - before if after >= before else after for before, after in pairwise(known))
