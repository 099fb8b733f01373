"""Bound the number of model names that become labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

OTHER = "other"
UNKNOWN = "unknown"


class ModelNames:
    """The model names of one server that are labels, at most ``max_models`` and those in the configuration.

    A client can send any name, so that a name becomes a label only after a successful response. Names in the
    configuration are labels from the start, so that a model that never succeeds has its own series too.
    """

    def __init__(self, max_models: int, known: Iterable[str] = ()) -> None:
        self._names = set(known)
        self._max = max_models

    def label(self, name: str | None, *, succeeded: bool) -> str:
        """Return the label of a model; a new name becomes one if the request succeeded and the limit allows it."""
        if name is None:
            return UNKNOWN
        if name in self._names:
            return name
        if not name.isascii():  # JSON may contain lone surrogates, which cannot be encoded
            name = name.encode("utf-8", "replace").decode()
            if name in self._names:
                return name
        if succeeded and len(self._names) < self._max and name not in (OTHER, UNKNOWN):
            self._names.add(name)
            return name
        return OTHER
