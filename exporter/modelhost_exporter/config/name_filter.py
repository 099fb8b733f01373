"""Filters of devices, mount points and interfaces: an include or an exclude pattern."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class NameFilter:
    """A filter of names by a regular expression, which must match the whole name.

    Set ``include`` (only these) or ``exclude`` (all but these); both raise ValueError.
    """

    include: re.Pattern[str] | None = None
    exclude: re.Pattern[str] | None = None

    def __post_init__(self) -> None:
        if self.include is not None and self.exclude is not None:
            raise ValueError("set include or exclude, not both")

    def keeps(self, name: str) -> bool:
        """Return whether ``name`` passes the filter."""
        if self.include is not None:
            return self.include.fullmatch(name) is not None
        return self.exclude is None or self.exclude.fullmatch(name) is None


def all_but(*patterns: str) -> NameFilter:
    """Return a filter that excludes every name that one of the regular expressions matches as a whole."""
    return NameFilter(exclude=re.compile("|".join(patterns)))
