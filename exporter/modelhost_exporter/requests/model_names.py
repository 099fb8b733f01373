"""Bound the number of model names that become labels."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from modelhost_exporter.metrics.label_values import bounded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

OTHER = "other"
UNKNOWN = "unknown"

IDLE_SECONDS = 3600.0
"""How long a name has had no request before it gives way."""
INTERVAL_SECONDS = 600.0
"""The least time between two names that give way to names that the engine does not list."""
_RETRY_SECONDS = 1.0
"""How long the result of a search without a name that may give way is used again."""
_LABELS_SECONDS = 1.0
"""How long the labels of the configured names are used again: an engine's list of names changes with its polls."""


def _never(_: str) -> bool:
    return False


def _unchanged(name: str) -> str:
    return name


class _Place:
    """The use of one name."""

    __slots__ = ("used", "was_listed")

    def __init__(self, used: float, *, was_listed: bool) -> None:
        self.used = used
        self.was_listed = was_listed


class ModelNames:
    """The model names of one server that are labels, at most ``max_models`` and those in the configuration.

    A client can send any name, so that a name becomes a label only after a successful response, or if the engine lists
    it. Names in the configuration, and the canonical names of their models, are labels from the start and never give
    way, so that a model that never succeeds has its own series too.

    When all places are taken, a name that the engine lists replaces the least recently used name that it never listed,
    else the least recently used one without requests for ``IDLE_SECONDS``. Any other name replaces only a name that is
    as idle and that the engine does not list, at most one every ``INTERVAL_SECONDS``: made-up names cannot remove the
    series of models that are listed or in use, and the number of series that they make in a day is bounded.
    """

    def __init__(
        self,
        max_models: int,
        known: Iterable[str] = (),
        *,
        is_listed: Callable[[str], bool] = _never,
        remove: Callable[[str], bool] = _never,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare. ``known`` are the configured names, ``is_listed`` returns whether the engine lists a name.

        ``remove`` removes what is kept for a name, or returns False if it is in use. By default no name gives way.
        """
        self._max = max_models
        self._given = tuple(known)
        self._known = frozenset(map(bounded, self._given))
        self._given_labels: tuple[float, frozenset[str]] | None = None  # when they were determined, and they
        self._places: dict[str, _Place] = {}
        self.canonical: Callable[[str], str] = _unchanged
        """Returns the one name of a model that has several, and any other name itself."""
        self._is_listed = is_listed
        self._remove = remove
        self._now = now
        self._search_after = {True: float("-inf"), False: float("-inf")}
        """When a name may be replaced again, by a listed name and by any other."""

    def configure(self, max_models: int, known: Iterable[str]) -> None:
        """Change the limit and the configured names; with a lower limit names are removed as others need a place."""
        self._given, self._given_labels = tuple(known), None
        before, self._known = self._known, frozenset(map(bounded, self._given))
        self._max = max_models
        for name in self._known:
            self._places.pop(name, None)
        for name in before - self._known:
            self._places[name] = _Place(self._now(), was_listed=False)

    def label(self, name: str | None, *, succeeded: bool) -> str:
        """Return the label of a model; a new name becomes one if the request succeeded and there is a place."""
        if name is None:
            return UNKNOWN
        name = self.canonical(name)
        if self._has(name):
            return name
        if (valid := _label_value(name)) != name:
            name = valid
            if self._has(name):
                return name
        if name not in (OTHER, UNKNOWN) and self._add(name, succeeded=succeeded):
            return name
        return OTHER

    def configured(self, label: str, names: Iterable[str]) -> str | None:
        """Return which of these names, which the configuration gives, is that of the model with this label."""
        return next((name for name in names if _label_value(self.canonical(name)) == label), None)

    def _has(self, name: str) -> bool:
        """Return whether a name is a label, and note its use."""
        if name in self._known:
            return True
        place = self._places.get(name)
        if place is None:
            return False
        place.used = self._now()
        return True

    def configured_labels(self) -> frozenset[str]:
        """Return the labels of the models that the configuration names; for any thread."""
        now, kept = self._now(), self._given_labels
        if kept is None or now - kept[0] >= _LABELS_SECONDS:
            labels = frozenset(_label_value(self.canonical(name)) for name in self._given)
            kept = self._given_labels = now, labels
        return kept[1]

    def _has_place(self) -> bool:
        """Return whether a place is free; a configured name takes none where its model has another label."""
        known = len(self._known & self.configured_labels())
        return known + len(self._places) < max(self._max, len(self._known))

    def _add(self, name: str, *, succeeded: bool) -> bool:
        listed = self._is_listed(name) or name in self.configured_labels()
        if not (succeeded or listed):
            return False
        while not self._has_place():
            if not self._make_room(listed=listed):
                return False
        self._places[name] = _Place(self._now(), was_listed=listed)
        return True

    def _make_room(self, *, listed: bool) -> bool:
        """Remove a name, for one that the engine lists or for another; return False when none may be removed."""
        now = self._now()
        if now < self._search_after[listed]:
            return False
        removed = next(filter(self._remove, self._replaceable(now, listed=listed)), None)
        if removed is None:
            self._search_after[listed] = now + _RETRY_SECONDS
            return False
        del self._places[removed]
        if not listed:
            self._search_after[listed] = now + INTERVAL_SECONDS
        return True

    def _replaceable(self, now: float, *, listed: bool) -> list[str]:
        """Return the names that may be removed, in the order in which they are."""
        found = []
        configured = self.configured_labels()
        for name, place in self._places.items():
            if name in configured:
                continue
            is_listed = self._is_listed(name)
            place.was_listed = place.was_listed or is_listed
            is_idle = now - place.used >= IDLE_SECONDS
            if (is_idle or not place.was_listed) if listed else (is_idle and not is_listed):
                found.append((place.was_listed, place.used, name))
        return [name for _, _, name in sorted(found)]


def _label_value(name: str) -> str:
    """Return a name that can be encoded, which one with half a surrogate pair (JSON allows it) cannot, and is short."""
    return bounded(name if name.isascii() else name.encode("utf-8", "replace").decode())
