"""Fixed-size ring buffer of samples, one column per field."""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Values = Mapping[str, Mapping[str, float | None]]
    """By thing and by field; None where nothing is known."""

    Columns = dict[str, dict[str, array[float]]]
    """Likewise; NaN where nothing is known."""

BYTES_PER_NUMBER = 8


class RingBuffer:
    """A column for each field of each of at most ``most`` things; each new row overwrites the oldest."""

    def __init__(self, fields: Sequence[str], rows: int, most: int) -> None:
        self._fields = fields
        self._rows = rows
        self._most = most
        self._columns: dict[str, list[array[float]]] = {}
        self._last_seen: dict[str, int] = {}

    def put(self, number: int, values: Values) -> None:
        """Write a row; ``number`` counts rows from 0 on.

        Only things that have numbers get columns. When all places are taken a new thing gets the place of the one that
        has been without numbers for longest, if there is one; a thing without numbers in any row loses its place.
        """
        for name, of_one in values.items():
            if any(of_one[field] is not None for field in self._fields) and self._has_place(name, number):
                self._last_seen[name] = number
        for name, columns in self._columns.items():
            of_one = values.get(name, {})
            for field, column in zip(self._fields, columns, strict=True):
                value = of_one.get(field)
                column[number % self._rows] = math.nan if value is None else value
        for name in [name for name, seen in self._last_seen.items() if seen <= number - self._rows]:
            self._drop(name)

    def columns(self, rows: int, skipped: int = 0) -> Columns:
        """Return copies of all columns, the oldest row first, when ``rows`` were written; without the first few."""
        start = rows % self._rows if rows > self._rows else 0
        end = min(rows, self._rows)
        return {
            name: {
                field: (column[start:end] + column[:start])[skipped:]
                for field, column in zip(self._fields, columns, strict=True)
            }
            for name, columns in self._columns.items()
        }

    def _has_place(self, name: str, number: int) -> bool:
        if name in self._columns:
            return True
        if len(self._columns) >= self._most:
            silent = min(self._last_seen, key=lambda known: self._last_seen[known])
            if self._last_seen[silent] >= number - 1:
                return False
            self._drop(silent)
        self._columns[name] = [array("d", [math.nan]) * self._rows for _ in self._fields]
        return True

    def _drop(self, name: str) -> None:
        del self._columns[name], self._last_seen[name]
