"""Which devices, mount points or interfaces are measured: an include or an exclude pattern."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class NameFilter:
    """A filter of names by regular expression, which must match the whole name.

    Give ``include`` (only these) or ``exclude`` (all but these), never both: ValueError.
    """

    include: re.Pattern[str] | None = None
    exclude: re.Pattern[str] | None = None

    def __post_init__(self) -> None:
        if self.include is not None and self.exclude is not None:
            raise ValueError("give include or exclude, not both")

    def keeps(self, name: str) -> bool:
        """Return whether ``name`` is measured."""
        if self.include is not None:
            return self.include.fullmatch(name) is not None
        return self.exclude is None or self.exclude.fullmatch(name) is None


def all_but(*patterns: str) -> NameFilter:
    """Select every name that none of the regular expressions matches as a whole."""
    return NameFilter(exclude=re.compile("|".join(patterns)))
