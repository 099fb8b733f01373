"""Log a state once when it begins and once when it ends, not each time it is observed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

S = TypeVar("S", bound="Hashable")

MAX_KEYS = 256


class StateLog(Generic[S]):
    """The last state of each key, to log only changes. Thread-safe.

    Only keys whose state differs from the initial one are kept, at most ``max_keys``; states of further keys are not
    logged. ::

        if self._failing.changed(problem is not None):
            log.log(logging.WARNING if problem else logging.INFO, …)
    """

    def __init__(self, initial: S, max_keys: int = MAX_KEYS) -> None:
        """Prepare; ``initial`` is the state of each key before its first report."""
        self._initial = initial
        self._max_keys = max_keys
        self._lock = threading.RLock()  # reentrant: a finalizer may report a state while this thread holds it
        self._states: dict[Hashable, S] = {}

    def changed(self, state: S, key: Hashable = None) -> bool:
        """Record the state of a key; return whether it differs from the previous one."""
        with self._lock:
            if state == self._states.get(key, self._initial):
                return False
            if state == self._initial:
                del self._states[key]
            elif key in self._states or len(self._states) < self._max_keys:
                self._states[key] = state
            else:
                return False
            return True

    def states(self) -> dict[Hashable, S]:
        """Return the state of each key whose state is not the initial one."""
        with self._lock:
            return dict(self._states)
