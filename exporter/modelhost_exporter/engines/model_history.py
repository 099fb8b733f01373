"""Which models were loaded when: loads and unloads counted, and requests that found their model not loaded."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelhost_exporter.requests.model_names import OTHER, ModelNames

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from modelhost_exporter.engines.snapshot import Model, ServerSnapshot

_MAX_STATES = 256
_MAX_LOADED_NAMES, _MAX_LOADED_CHARACTERS = 256, 1 << 14
"""Of a state; with more it is not known what is loaded, since many states are kept: at most 10 MB a server."""


@dataclass
class Known:
    """One model, its state, and its loads and unloads so far."""

    model: Model
    loaded: bool | None
    loads: int = 0
    unloads: int = 0
    load_seconds: float | None = None
    load_noted_since: float | None = None
    """Start of the unloaded time, according to polls, before the load that ``load_seconds`` is of."""

    @property
    def has_states(self) -> bool:
        """Return whether its server ever reported whether it is loaded."""
        return self.loaded is not None


@dataclass
class _State:
    """The loaded models between two polls that found a change; times of the monotonic clock."""

    since: float
    confirmed: float
    loaded: frozenset[str] | None
    """Every name of every loaded model; None while that is not known."""
    any_name: bool = False


class ModelHistory:
    """The models of one server. Updated by polls in one thread, read for requests in another."""

    def __init__(self, max_models: int) -> None:
        self._names = ModelNames(max_models)
        self._known: dict[str, Known] = {}
        self.labels: Mapping[str, str] = {}
        """The label of each model by its name and aliases, loaded or not; replaced as a whole by each poll."""
        self._polled = False
        self._states: deque[_State] = deque(maxlen=_MAX_STATES)
        self._answered: dict[str, float] = {}
        self._lock = threading.Lock()

    def poll(self, at: float, snapshot: ServerSnapshot | None) -> None:
        """Take what a poll found; None when the server did not answer."""
        with self._lock:
            if snapshot is not None:
                self._take(snapshot)
            self._remember(at, snapshot)

    def models(self) -> Iterator[tuple[str, Known]]:
        """Yield the models and their labels, in the order in which they were first seen; for any thread."""
        with self._lock:
            known = list(self._known.items())
        yield from known

    def is_cold(self, name: str, accepted: float, first_answer: float) -> bool:
        """Return whether a request accepted at that time found its model not loaded; False when that is not known.

        Once one request was answered the model is loaded, also before the next poll sees it.
        """
        with self._lock:
            state = self._state_at(accepted)
            if state is None or state.loaded is None:
                return False
            key = "" if state.any_name else name
            answered = self._answered.get(key, float("-inf"))
            self._answered[key] = max(answered, first_answer)
            loaded = bool(state.loaded) if state.any_name else name in state.loaded
            seen = state.confirmed if state.confirmed <= accepted else state.since
            return not loaded and not seen <= answered < accepted

    def note_load(self, name: str, accepted: float, seconds: float) -> None:
        """Record a load's duration, as reported to a request that was accepted at that time and waited for it.

        Of several requests that waited for one load, the first was reported the whole duration.
        """
        with self._lock:
            state = self._state_at(accepted)
            since = state.since if state else None
            for known in self._known.values():
                if name in known.model.names:
                    told = known.load_seconds if known.load_noted_since == since else None
                    known.load_seconds = max(seconds, told or 0.0)
                    known.load_noted_since = since

    def remove_requests(self, name: str) -> None:
        """Remove what is kept of the requests to a model whose series were removed."""
        with self._lock:
            self._answered.pop(name, None)

    def _state_at(self, moment: float) -> _State | None:
        """Return what was loaded at a moment; None before the first poll."""
        return next((state for state in reversed(self._states) if state.since <= moment), None)

    def _take(self, snapshot: ServerSnapshot) -> None:
        listed = {label: model for model in snapshot.models if (label := self._label(model)) is not None}
        for label, model in listed.items():
            self._see(label, model, model.loaded)
        for label in self._known.keys() - listed.keys():
            known = self._known[label]
            if known.has_states:
                self._see(label, known.model, loaded=False)
            else:
                del self._known[label]
        self._polled = True
        self.labels = self._labels_by_name()

    def _see(self, label: str, model: Model, loaded: bool | None) -> None:
        known = self._known.get(label)
        if known is None:
            known = self._known[label] = Known(model, loaded=False if self._polled and loaded else loaded)
        known.loads += loaded is True and known.loaded is False
        known.unloads += loaded is False and known.loaded is True
        known.model, known.loaded = model, loaded
        if model.load_seconds is not None:
            known.load_seconds = model.load_seconds

    def _labels_by_name(self) -> Mapping[str, str]:
        """Return the labels by name; a name of several models is that of one whose own name it is, else the first's."""
        labels = {label: label for label in self._known}
        for label, known in self._known.items():
            for name in known.model.names:
                labels.setdefault(name, label)
        return labels

    def _label(self, model: Model) -> str | None:
        """Return the label of a model; None beyond the limit, and for invalid names."""
        label = self._names.label(model.name, succeeded=True)
        return None if label == OTHER else label

    def _remember(self, at: float, snapshot: ServerSnapshot | None) -> None:
        loaded: frozenset[str] | None = None
        by_any_name = False
        if snapshot is not None and snapshot.loads_on_request != "never":
            loaded = frozenset(name for model in snapshot.models if model.loaded for name in model.names)
            by_any_name = snapshot.loads_on_request == "by_any_name"
            if len(loaded) > _MAX_LOADED_NAMES or sum(map(len, loaded)) > _MAX_LOADED_CHARACTERS:
                loaded = None
        if self._states and self._states[-1].loaded == loaded:
            self._states[-1].confirmed = at
        else:
            self._states.append(_State(at, at, loaded, by_any_name))
