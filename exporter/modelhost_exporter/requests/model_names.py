"""Which model names may become labels: a bounded number of places per server."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

OTHER = "other"
UNKNOWN = "unknown"


class ModelNames:
    """The model names of one server that become labels, a bounded number.

    A client can send any name: a name becomes a label after a successful response. Names in the configuration are
    labels from the start, so that a model that never succeeds has its own series too.
    """

    def __init__(self, max_models: int, known: Iterable[str] = ()) -> None:
        self._names = set(known)
        self._max = max_models

    def label(self, name: str | None, *, succeeded: bool) -> str:
        """Return the label for a model's name, which takes a place if the request succeeded and one is free."""
        if name is None:
            return UNKNOWN
        if name in self._names:
            return name
        if not name.isascii():  # JSON can hold half a surrogate pair, which no page of metrics could carry
            name = name.encode("utf-8", "replace").decode()
            if name in self._names:
                return name
        if succeeded and len(self._names) < self._max and name not in (OTHER, UNKNOWN):
            self._names.add(name)
            return name
        return OTHER
