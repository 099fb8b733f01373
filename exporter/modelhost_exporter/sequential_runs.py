"""Call functions one after another in one thread; one that is slow is left behind in it, and the rest go on in another.

A thread for each function would be handed over to and back for each of them, which costs more than most of them do.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from modelhost_exporter.process.run import Asked, Run, SingleRun
    from modelhost_exporter.threads import Pool

K = TypeVar("K")
T = TypeVar("T")


def start(one: SingleRun[T], pool: Pool) -> Run[T]:
    """Return a function's run in progress, or start one; never blocks."""
    asked = one.begin()
    if not asked.run.is_begun:
        _submit(_Batch([asked]), pool)
    return asked.run


def start_in_order(
    functions: Iterable[tuple[K, SingleRun[T]]], pool: Pool, head_start_seconds: float, until: float
) -> dict[K, Run[T]]:
    """Start the functions one after another, and return their runs by key; those in progress are shared.

    Shared runs that have not begun are started as well, so that none waits behind what is slow for another caller.

    Each starts when the one before has ended, or has had its head start. After ``until`` (monotonic) all that are left
    start at once. Returns when the last one has ended or had its head start.
    """
    asked = {key: one.begin() for key, one in functions}
    batch = _Batch(one for one in asked.values() if not one.run.is_begun)
    while batch.is_open():
        _submit(batch, pool)
        batch = batch.rest_once_slow(head_start_seconds, until)
        if time.monotonic() >= until:
            for single in batch.split():
                _submit(single, pool)
            break
    return {key: one.run for key, one in asked.items()}


class _Batch:
    """Runs that one thread executes in order; those that have not begun can be taken away from it."""

    def __init__(self, runs: Iterable[Asked[Any]]) -> None:
        self.begun = False
        """Whether the thread has called it: before that, it may fail for lack of memory and be tried again."""
        self._waiting = deque(runs)
        self._current_since: float | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def __call__(self) -> None:
        """Execute the runs."""
        self.begun = True
        while (asked := self._next()) is not None:
            with contextlib.suppress(MemoryError):  # the run without memory has no result; the others go on
                asked.function.execute(asked.run)
        self._ended.set()

    def is_open(self) -> bool:
        """Return whether runs wait."""
        return bool(self._waiting)

    def split(self) -> list[_Batch]:
        """Return a batch for each run that waits."""
        return [_Batch([asked]) for asked in self._waiting]

    def fail(self, error: RuntimeError) -> None:
        """Let all new runs fail for lack of a thread; those of others may have one."""
        while (asked := self._next()) is not None:
            if asked.is_new:
                asked.function.fail(asked.run, error)
        self._ended.set()

    def rest_once_slow(self, head_start_seconds: float, until: float) -> _Batch:
        """Wait until all runs have ended, one had its head start, or the time is over; return what has not begun."""
        left = head_start_seconds
        while left > 0 and not self._ended.wait(max(0.0, min(left, until - time.monotonic()))):
            now = time.monotonic()
            if now >= until:
                break
            left = (self._current_since or now) + head_start_seconds - now
        with self._lock:
            rest = _Batch(self._waiting)
            self._waiting.clear()
        return rest

    def _next(self) -> Asked[Any] | None:
        with self._lock:
            if not self._waiting:
                return None
            self._current_since = time.monotonic()
            return self._waiting.popleft()


def _submit(batch: _Batch, pool: Pool) -> None:
    try:
        pool.submit(batch)
    except RuntimeError as error:  # no thread left
        batch.fail(error)
