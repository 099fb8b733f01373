"""Daemon threads for blocking calls, so that a call that never returns does not delay the stop.

Those of asyncio and concurrent.futures are joined when the interpreter exits, so a hung call would keep the
process alive.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from modelhost_exporter.process.daemon_thread import BEGIN_SECONDS, Thread, start
from modelhost_exporter.process.error_frames import without_frames

if TYPE_CHECKING:
    from collections.abc import Callable

    NewThread = Callable[[Callable[[], object], str], "Thread"]

log = logging.getLogger(__name__)

T = TypeVar("T")

_NO_MEMORY_PAUSE_SECONDS = 0.1


class Pool:
    """Threads for short calls: ``kept`` of them wait for work, more are started on demand and end afterwards."""

    def __init__(self, name: str, kept: int, new_thread: NewThread | None = None) -> None:
        """Prepare; threads start with ``prepare``, or with the first calls."""
        self._name = name
        self._kept = kept
        self._new_thread = new_thread or Thread
        self._jobs: deque[Callable[[], object]] = deque()
        self._changed = threading.Condition(threading.Lock())
        self._idle = 0
        self.finished = 0
        """Number of finished calls."""

    def prepare(self) -> None:
        """Start the threads that are kept; RuntimeError when the machine has too few. Blocks."""
        with self._changed:
            missing = self._kept - self._idle
        for _ in range(missing):
            self._new_thread(self._work, self._name).start(BEGIN_SECONDS)

    def submit(self, job: Callable[[], object]) -> None:
        """Run a function that raises nothing in one of the threads; never blocks.

        RuntimeError when all threads are busy and no further one can be started.
        """
        with self._changed:
            if self._idle <= len(self._jobs):
                # should it die before it begins, the next free thread takes the job
                self._new_thread(self._work, self._name).start()
            self._jobs.append(job)
            self._changed.notify()

    def _work(self) -> None:
        job: Callable[[], object] | None = None
        while True:
            try:
                if job is None or getattr(job, "begun", True):  # else there was no memory to begin it
                    job = self._next()
                    if job is None:
                        return
                job()
                self.finished += 1
                job = None  # an idle thread must not keep what the last call returned
            except MemoryError:
                time.sleep(_NO_MEMORY_PAUSE_SECONDS)
            except Exception:
                log.exception("a call failed", extra={"fields": {"thread": self._name}})

    def _next(self) -> Callable[[], object] | None:
        """Wait for the next job; None for a thread that is not needed any more."""
        with self._changed:
            if self._idle >= self._kept and not self._jobs:
                return None
            self._idle += 1
            try:
                while not self._jobs:
                    self._changed.wait()
                return self._jobs.popleft()
            finally:
                self._idle -= 1


PAGES = Pool("page", kept=4)
"""Threads that render pages; scrapes continue in them when the thread limit is reached."""
CALLS = Pool("call", kept=2)
"""Threads for everything else that the event loop waits for."""


def call(function: Callable[[], T], pool: Pool = CALLS) -> asyncio.Future[T]:
    """Run ``function`` in a daemon thread; the future holds what it returns or raises.

    When the future is cancelled the thread runs on and its result is dropped. RuntimeError when the machine has
    no thread left.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()
    pool.submit(_Call(loop, result, function))
    return result


class _Call(Generic[T]):
    """A function that a thread of a pool runs for a future of an event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[T], function: Callable[[], T]) -> None:
        self._loop = loop
        self._future = future
        self._function = function
        self.begun = False
        """Whether there was enough memory to begin."""

    def __call__(self) -> None:
        """Run the function and settle the future."""
        self.begun = True
        loop = self._loop
        settle: Callable[[], None]
        try:
            settle = partial(_set_result, self._future, self._function())
        except BaseException as error:  # noqa: BLE001 - for whoever waits
            settle = partial(_set_exception, self._future, error)
        try:
            _run_on(loop, settle)
        finally:
            # The frames of an error lead to this one. With the future in its variables they would be a cycle.
            del self, settle


def _run_on(loop: asyncio.AbstractEventLoop, settle: Callable[[], None]) -> None:
    """Run a function on an event loop; while there is no memory for that, try again."""
    while True:
        try:
            loop.call_soon_threadsafe(settle)
        except RuntimeError:  # the loop was closed meanwhile: nobody waits
            return
        except MemoryError:
            time.sleep(_NO_MEMORY_PAUSE_SECONDS)
        else:
            return


def _set_result(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


def _set_exception(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        if isinstance(error, StopIteration):  # a future does not accept it
            error = RuntimeError(repr(error))
        future.set_exception(error)


class Run(Generic[T]):
    """One run of a function; ``value`` or ``error``, and ``seconds``, are set once ``wait`` has returned True.

    The error has no traceback: its frames refer to this run, and would live until a garbage collection.
    """

    value: T
    error: BaseException | None = None
    seconds: float = 0.0

    def __init__(self) -> None:
        self.started = time.monotonic()
        self._finished = threading.Event()

    def wait(self, seconds: float) -> bool:
        """Wait until the run is finished, at most until ``seconds`` after its start; return whether it is."""
        return self._finished.wait(max(0.0, self.started + seconds - time.monotonic()))

    def is_finished(self) -> bool:
        """Return whether the run is finished."""
        return self._finished.is_set()

    def age(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self.started

    def execute(self, function: Callable[[], T]) -> None:
        """Run the function and finish, whatever happens."""
        try:
            self.value = function()
        except BaseException as error:  # noqa: BLE001 - kept for whoever waits
            self.error = without_frames(error)
        self.seconds = self.age()
        self._finished.set()


def _failed(error: BaseException) -> Run[Any]:
    def fail() -> None:
        raise error

    run: Run[Any] = Run()
    run.execute(fail)
    return run


class Worker(Generic[T]):
    """A daemon thread that runs one function, one run at a time; a start during a run shares that run."""

    def __init__(
        self,
        function: Callable[[], T],
        name: str,
        before: Worker[T] | None = None,
        start_thread: NewThread = start,
    ) -> None:
        """Prepare; as long as ``before``, which this one replaces, has a run under way, that run is shared instead."""
        self._function = function
        self._name = name
        self._before = before
        self._start_thread = start_thread
        self._orders: queue.SimpleQueue[Run[T] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._current: Run[T] | None = None
        self._thread: Thread | None = None
        self._closed = False

    def prepare(self) -> None:
        """Start the thread, so that no run needs a new one; RuntimeError when the machine has none left."""
        with self._lock:
            self._ensure_thread()

    def start(self) -> Run[T]:
        """Return the run that is under way, or start one.

        Where the machine has no thread left it returns a run that failed for that, and the next start tries again.
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
                self._orders.put(self._current)
                if self._closed:
                    self._orders.put(None)
            return self._current

    def current(self) -> Run[T] | None:
        """Return the run that is under way here, or still under way in what this one replaces."""
        worker: Worker[T] | None = self
        while worker is not None:  # as many as there were reloads during one run that hangs
            with worker._lock:  # noqa: SLF001 - another of its kind
                if worker._current is not None and not worker._current.is_finished():  # noqa: SLF001
                    return worker._current  # noqa: SLF001
                worker = worker._before  # noqa: SLF001
        return None

    def close(self) -> None:
        """End the thread after the current run."""
        with self._lock:
            self._closed = True
            if self._thread is not None:
                self._orders.put(None)

    def _ensure_thread(self) -> None:
        """Start a thread if there is none; after ``close``, one for a single late run. The lock must be held."""
        if self._thread is None or self._closed or not self._thread.is_alive():
            self._thread = self._start_thread(self._work, self._name)

    def _work(self) -> None:
        while (run := self._orders.get()) is not None:
            try:
                run.execute(self._run_and_reset)
            except MemoryError:  # the run stays unfinished; the next one is another
                self._reset()
            del run  # an idle thread must not keep what was measured

    def _run_and_reset(self) -> T:
        try:
            return self._function()
        finally:
            self._reset()

    def _reset(self) -> None:
        with self._lock:
            self._current = None
