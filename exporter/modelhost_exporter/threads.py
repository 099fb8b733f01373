"""Pools of daemon threads for blocking calls of the event loop.

The threads of asyncio and concurrent.futures are joined when the interpreter exits, so that a call that hangs would
keep the process alive. Daemon threads are not.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from modelhost_exporter.process.daemon_thread import BEGIN_SECONDS, Thread

if TYPE_CHECKING:
    from collections.abc import Callable

    NewThread = Callable[[Callable[[], object], str], "Thread"]

log = logging.getLogger(__name__)

T = TypeVar("T")

_NO_MEMORY_PAUSE_SECONDS = 0.1


class Pool:
    """Threads for short calls: ``kept`` of them wait for calls, more are started on demand and end afterwards."""

    def __init__(self, name: str, kept: int, new_thread: NewThread | None = None) -> None:
        """Prepare; threads are started by ``prepare``, or by the first calls."""
        self._name = name
        self._kept = kept
        self._new_thread = new_thread or Thread
        self._jobs: deque[Callable[[], object]] = deque()
        self._changed = threading.Condition(threading.Lock())
        self._idle = 0
        self.finished = 0
        """Number of finished calls."""

    def prepare(self) -> None:
        """Start the threads that are kept; blocks. Raises RuntimeError when the machine has no thread left."""
        with self._changed:
            missing = self._kept - self._idle
        for _ in range(missing):
            self._new_thread(self._work, self._name).start(BEGIN_SECONDS)

    def submit(self, job: Callable[[], object]) -> None:
        """Run a function in one of the threads; never blocks. Exceptions of the function are logged.

        Raises RuntimeError when all threads are busy and no other one can be started.
        """
        with self._changed:
            if self._idle <= len(self._jobs):
                # if the thread dies before it begins, the next free one runs the job
                self._new_thread(self._work, self._name).start()
            self._jobs.append(job)
            self._changed.notify()

    def _work(self) -> None:
        job: Callable[[], object] | None = None
        while True:
            try:
                if job is None or getattr(job, "begun", True):  # else it could not begin for lack of memory
                    job = self._next()
                    if job is None:
                        return
                job()
                self.finished += 1
                job = None  # so that an idle thread does not keep the last result alive
            except MemoryError:
                time.sleep(_NO_MEMORY_PAUSE_SECONDS)
            except Exception:
                log.exception("a call failed", extra={"fields": {"thread": self._name}})

    def _next(self) -> Callable[[], object] | None:
        """Wait for the next job; return None when the thread is not needed any more."""
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
"""Threads that render pages. Those that are kept go on when the machine has no thread left."""
COLLECTORS = Pool("collector", kept=2)
"""Threads that run collectors: one is enough while none is slow."""
GPUS = Pool("gpu", kept=1)
"""Threads that query GPUs for their collector, which waits for them: one is enough while none is slow."""
READS = Pool("parallel-reads", kept=1)
"""Threads for reads that may hang; one is enough where every read returns at once."""
HANDSHAKES = Pool("tls", kept=1)
"""Threads for the handshakes of TLS connections; none is started where no listener has TLS."""
CALLS = Pool("call", kept=2)
"""Threads for every other blocking call of the event loop."""


def call(function: Callable[[], T], pool: Pool = CALLS) -> asyncio.Future[T]:
    """Run ``function`` in a thread of the pool; the future holds its result or exception.

    When the future is cancelled the call goes on, and its result is dropped. Raises RuntimeError when the machine has
    no thread left.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()
    pool.submit(_Call(loop, result, function))
    return result


class _Call(Generic[T]):
    """A call that settles a future of an event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[T], function: Callable[[], T]) -> None:
        self._loop = loop
        self._future = future
        self._function = function
        self.begun = False
        """Whether it began: before that, it may fail for lack of memory and be tried again."""

    def __call__(self) -> None:
        """Call the function and settle the future."""
        self.begun = True
        loop = self._loop
        settle: Callable[[], None]
        try:
            settle = partial(_set_result, self._future, self._function())
        except BaseException as error:  # noqa: BLE001 - raised where the future is awaited
            settle = partial(_set_exception, self._future, error)
        try:
            _run_on(loop, settle)
        finally:
            # An error refers to this frame. With the future in its variables the two would be a reference cycle.
            del self, settle


def _run_on(loop: asyncio.AbstractEventLoop, settle: Callable[[], None]) -> None:
    """Run a function on an event loop; retry as long as memory is lacking."""
    while True:
        try:
            loop.call_soon_threadsafe(settle)
        except RuntimeError:  # the loop was closed meanwhile
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
