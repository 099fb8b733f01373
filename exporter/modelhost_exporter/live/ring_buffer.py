"""Fixed-size ring buffer of samples, one column per field."""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Values = Mapping[str, Mapping[str, float | None]]
    """By item and field; None where the value is not known."""

    Columns = dict[str, dict[str, array[float]]]
    """By item and field, a number for each row; NaN where the value is not known."""

BYTES_PER_NUMBER = 8


class RingBuffer:
    """A column for each field of each of at most ``max_items`` items; a new row overwrites the oldest."""

    def __init__(self, fields: Sequence[str], rows: int, max_items: int) -> None:
        self._fields = fields
        self._rows = rows
        self._max_items = max_items
        self._columns: dict[str, list[array[float]]] = {}
        self._last_seen: dict[str, int] = {}

    def put(self, number: int, values: Values) -> None:
        """Write row ``number``, counted from 0.

        Only items with values get columns. When ``max_items`` have columns, a new item replaces the one that has been
        without values for longest, if there is one. An item without values in all rows is removed.
        """
        for name, item in values.items():
            if any(item[field] is not None for field in self._fields) and self._get_columns(name, number):
                self._last_seen[name] = number
        for name, columns in self._columns.items():
            item = values.get(name, {})
            for field, column in zip(self._fields, columns, strict=True):
                value = item.get(field)
                column[number % self._rows] = math.nan if value is None else value
        for name in [name for name, seen in self._last_seen.items() if seen <= number - self._rows]:
            self._remove(name)

    def columns(self, rows: int, skipped: int = 0) -> Columns:
        """Return copies of all columns, the oldest row first, less the ``skipped`` oldest; ``rows`` were written."""
        start = rows % self._rows if rows > self._rows else 0
        end = min(rows, self._rows)
        return {
            name: {
                field: (column[start:end] + column[:start])[skipped:]
                for field, column in zip(self._fields, columns, strict=True)
            }
            for name, columns in self._columns.items()
        }

    def _get_columns(self, name: str, number: int) -> bool:
        if name in self._columns:
            return True
        if len(self._columns) >= self._max_items:
            silent = min(self._last_seen, key=lambda known: self._last_seen[known])
            if self._last_seen[silent] >= number - 1:
                return False
            self._remove(silent)
        self._columns[name] = [array("d", [math.nan]) * self._rows for _ in self._fields]
        return True

    def _remove(self, name: str) -> None:
        del self._columns[name], self._last_seen[name]
