"""Daemon threads for calls that block: one that never returns must not hold up the stop.

Those of asyncio and concurrent.futures are joined when the interpreter exits, so a hung call would keep the
process alive.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def call(function: Callable[[], T]) -> asyncio.Future[T]:
    """Run ``function`` in a daemon thread of its own; the future holds what it returns or raises.

    When the future is cancelled the thread runs on and its result is dropped. RuntimeError when the machine has
    no thread left.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()
    run: Run[T] = Run()

    def settle() -> None:
        if result.done():
            return
        if run.error is None:
            result.set_result(run.value)
        else:
            result.set_exception(run.error)

    def work() -> None:
        run.execute(function)
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits
            loop.call_soon_threadsafe(settle)

    threading.Thread(target=work, name="call", daemon=True).start()
    return result


class Run(Generic[T]):
    """One run of a function; ``value`` or ``error``, and ``seconds``, are set once ``wait`` has returned True."""

    value: T
    error: BaseException | None = None
    seconds: float

    def __init__(self) -> None:
        self.started = time.monotonic()
        self._finished = threading.Event()

    def wait(self, seconds: float) -> bool:
        """Wait until the run is finished, at most until ``seconds`` after its start; tell whether it is."""
        return self._finished.wait(max(0.0, self.started + seconds - time.monotonic()))

    def age(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self.started

    def execute(self, function: Callable[[], T]) -> None:
        """Run the function and finish, whatever happens."""
        try:
            self.value = function()
        except BaseException as error:  # noqa: BLE001 - kept for whoever waits
            self.error = error
        self.seconds = self.age()
        self._finished.set()


def _failed(error: BaseException) -> Run[Any]:
    def fail() -> None:
        raise error

    run: Run[Any] = Run()
    run.execute(fail)
    return run


class Worker(Generic[T]):
    """Runs one function in one daemon thread, one run at a time; whoever asks during a run shares it."""

    def __init__(self, function: Callable[[], T], name: str, before: Worker[T] | None = None) -> None:
        """Prepare; as long as ``before``, which this one replaces, has a run under way, that run is shared instead."""
        self._function = function
        self._name = name
        self._before = before
        self._orders: queue.SimpleQueue[Run[T] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._current: Run[T] | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def start(self) -> Run[T]:
        """Return the run that is under way, or start one; never blocks.

        Where the machine has no thread left it returns a run that failed for that, and the next start tries again.
        """
        with self._lock:
            if self._before is not None:
                if (run := self._before.current()) is not None:
                    return run
                self._before = None
            if self._current is None:
                if self._thread is None or self._closed:  # closed: a thread for this late run alone
                    thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                    try:
                        thread.start()
                    except RuntimeError as error:
                        return _failed(error)
                    self._thread = thread
                self._current = Run()
                self._orders.put(self._current)
                if self._closed:
                    self._orders.put(None)
            return self._current

    def current(self) -> Run[T] | None:
        """Return the run that is under way here, or still under way in what this one replaces."""
        with self._lock:
            return self._current or (self._before.current() if self._before is not None else None)

    def close(self) -> None:
        """Let the thread end after the run under way."""
        with self._lock:
            self._closed = True
            if self._thread is not None:
                self._orders.put(None)

    def _work(self) -> None:
        while (run := self._orders.get()) is not None:
            run.execute(self._run_and_forget)

    def _run_and_forget(self) -> T:
        try:
            return self._function()
        finally:
            with self._lock:
                self._current = None
