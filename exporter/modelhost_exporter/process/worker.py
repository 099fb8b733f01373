"""A daemon thread that runs one function, one run at a time.

A function that never returns blocks only its thread: whoever waits for the run has a deadline.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from modelhost_exporter.process.daemon_thread import start
from modelhost_exporter.process.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelhost_exporter.process.daemon_thread import Thread

    StartThread = Callable[[Callable[[], object], str], Thread]

T = TypeVar("T")


def _failed(error: BaseException) -> Run[Any]:
    """Return a finished run with an error."""

    def fail() -> None:
        raise error

    run: Run[Any] = Run()
    run.execute(fail)
    return run


class Worker(Generic[T]):
    """A daemon thread that runs one function. ``start`` during a run returns that run."""

    def __init__(
        self,
        function: Callable[[], T],
        name: str,
        before: Worker[T] | None = None,
        start_thread: StartThread = start,
    ) -> None:
        """Prepare; as long as ``before``, the worker that this one replaces, has a run in progress, it is shared."""
        self._function = function
        self._name = name
        self._before = before
        self._start_thread = start_thread
        self._queue: queue.SimpleQueue[Run[T] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._current: Run[T] | None = None
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
            if self._before is not None:
                if (run := self._before.current()) is not None:
                    return run
                self._before = None
            if self._current is None or self._current.is_finished():
                try:
                    self._ensure_thread()
                except RuntimeError as error:
                    return _failed(error)
                self._current = Run()
                self._queue.put(self._current)
                if self._closed:
                    self._queue.put(None)
            return self._current

    def current(self) -> Run[T] | None:
        """Return the run in progress here, or in the workers that this one replaces."""
        worker: Worker[T] | None = self
        while worker is not None:  # one for each reload during a run that hangs
            with worker._lock:  # noqa: SLF001 - of the same class
                if worker._current is not None and not worker._current.is_finished():  # noqa: SLF001
                    return worker._current  # noqa: SLF001
                worker = worker._before  # noqa: SLF001
        return None

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
            try:
                run.execute(self._run_and_reset)
            except MemoryError:  # this run never finishes; the next start makes another
                self._reset()
            del run  # so that an idle thread does not keep the result alive

    def _run_and_reset(self) -> T:
        try:
            return self._function()
        finally:
            self._reset()

    def _reset(self) -> None:
        with self._lock:
            self._current = None
