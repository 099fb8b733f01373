"""A daemon thread that runs one function, one run at a time.

A function that never returns blocks only its thread: whoever waits for the run has a deadline.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

from modelhost_exporter.process.daemon_thread import start
from modelhost_exporter.process.run import SingleRun

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelhost_exporter.process.daemon_thread import Thread
    from modelhost_exporter.process.run import Run

    StartThread = Callable[[Callable[[], object], str], Thread]

T = TypeVar("T")


class Worker(Generic[T]):
    """A daemon thread that runs one function. ``start`` during a run returns that run."""

    def __init__(self, function: Callable[[], T], name: str, start_thread: StartThread = start) -> None:
        """Prepare; nothing runs yet."""
        self._function = SingleRun(function)
        self._name = name
        self._start_thread = start_thread
        self._queue: queue.SimpleQueue[Run[T] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: Thread | None = None
        self._closed = False

    def prepare(self) -> None:
        """Start the thread, so that no run needs a new one. Raises RuntimeError when the machine has no thread left."""
        with self._lock:
            self._ensure_thread()

    def start(self) -> Run[T]:
        """Return the run in progress, or start one.

        Where the machine has no thread left, return a run that failed for that reason; the next start tries again.
        """
        with self._lock:
            asked = self._function.begin()
            if not asked.run.is_begun:
                try:
                    self._ensure_thread()
                except RuntimeError as error:
                    self._function.fail(asked.run, error)
                    return asked.run
                self._queue.put(asked.run)
                if self._closed:
                    self._queue.put(None)
            return asked.run

    def close(self) -> None:
        """End the thread after the current run."""
        with self._lock:
            self._closed = True
            if self._thread is not None:
                self._queue.put(None)

    def _ensure_thread(self) -> None:
        """Start a thread if there is none; after ``close``, one for a single late run. Called with the lock held."""
        if self._thread is None or self._closed or not self._thread.is_alive():
            self._thread = self._start_thread(self._work, self._name)

    def _work(self) -> None:
        while (run := self._queue.get()) is not None:
            with contextlib.suppress(MemoryError):  # the run never finishes; the next start makes another
                self._function.execute(run)
            del run  # so that an idle thread does not keep the result alive
