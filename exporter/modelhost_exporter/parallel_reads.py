"""Make many calls, any of which may be slow or never return, on a few threads.

Used for what can block in the kernel: file systems (statvfs), link speeds, frequencies, sensor chips, InfiniBand ports
and NVMe drives. A call that hangs cannot be ended: its thread is abandoned and replaced, and its key is not read again
before the call returns.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, TypeVar

from modelhost_exporter import threads

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from modelhost_exporter.threads import Pool

K = TypeVar("K", bound="Hashable")
T = TypeVar("T")

_THREADS = 4
_MANY_STUCK_THREADS, _MAX_STUCK_THREADS = 64, 256
_HEAD_START_SECONDS = 0.01
_FAST_SECONDS = 0.05
_WAIT_FOR_SLOW_SECONDS = 0.25
_MAX_TIME_LIMIT_SECONDS = 10.0


class Reading(NamedTuple, Generic[T]):
    """The last result for one key.

    ``state`` is ``ok`` (``value`` was read at ``time``, in seconds since 1970), ``error`` (the last call failed),
    ``stuck`` (the call has been running for too long, or too many others have for it to be made) or ``pending`` (no
    call has returned yet). ``value`` is None unless ``state`` is ``ok``.
    """

    state: Literal["ok", "error", "stuck", "pending"]
    value: T | None = None
    time: float = 0.0


class _Result(NamedTuple, Generic[T]):
    """The reading that one call returned, and its duration."""

    reading: Reading[T]
    seconds: float


class _Work:
    """The work of one thread, which the pool tries again if it could not begin for lack of memory."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self.begun = False

    def __call__(self) -> None:
        """Work."""
        self.begun = True
        self._work()


class ParallelReads(Generic[K, T]):
    """Call ``read(key)`` for many keys on four threads (five for fast keys), and keep the last reading of each key.

    A call is stuck after ``timeout_seconds``, or after twice the duration of the key's previous call (at most 10 s)
    where that is longer. A key that is slow but alive therefore keeps its last reading, with its time, while the next
    call runs. With 64 calls stuck only one more slow key is read in each measurement, and with 256 none, to bound the
    number of threads.
    """

    def __init__(  # noqa: PLR0913 - the last is for tests
        self,
        read: Callable[[K], T],
        timeout_seconds: float,
        wait_seconds: float,
        now: Callable[[], float] = time.time,
        running: dict[K, float] | None = None,
        *,
        pool: Pool = threads.READS,
    ) -> None:
        """Prepare; ``measure`` waits at most ``wait_seconds``, after which calls go on without it.

        ``running`` maps the key of each running call to its start (monotonic). Objects that share it do not make a call
        that hangs in another one.
        """
        self._read = read
        self._timeout = timeout_seconds
        self._wait = wait_seconds
        self._now = now
        self._changed = threading.Condition()
        self._queue: deque[K] = deque()
        self._calls: dict[K, float] = {}
        self._running = {} if running is None else running
        self._results: dict[K, _Result[T]] = {}
        self._pool = pool
        self._threads = 0
        self._has_risked_one = False

    def measure(self, keys: Iterable[K]) -> dict[K, Reading[T]]:
        """Read every key that is not being read, and return the last reading of each. Called by one thread at a time.

        Raises RuntimeError when no thread can be started.
        """
        wanted = list(dict.fromkeys(keys))
        with self._changed:
            self._results = {key: self._results[key] for key in wanted if key in self._results}
            self._queue = deque(self._ordered(wanted))
            self._has_risked_one = False
            self._wait_for(wanted)
            return {key: self._reading(key) for key in wanted}

    def _ordered(self, wanted: Iterable[K]) -> Sequence[K]:
        """Return the keys to read: fast ones first, then those with the oldest reading."""
        return sorted((key for key in wanted if key not in self._calls and key not in self._running), key=self._rank)

    def _is_fast(self, key: K) -> bool:
        result = self._results.get(key)
        return result is not None and result.seconds <= _FAST_SECONDS

    def _is_slow(self, key: K) -> bool:
        result = self._results.get(key)
        return result is not None and result.seconds > _FAST_SECONDS

    def _rank(self, key: K) -> tuple[bool, float]:
        result = self._results.get(key)
        if result is None:
            return True, 0.0
        return (False, result.seconds) if self._is_fast(key) else (True, result.reading.time)

    def _wait_for(self, wanted: Sequence[K]) -> None:
        """Wait until each key is read, failed or stuck, at most ``wait_seconds``.

        One thread starts alone: where every call returns at once, more threads would only contend for the interpreter.
        The wait for keys that were slow the last time, and have a reading, is at most a quarter of a second.
        """
        began = time.monotonic()
        self._start_threads(1)
        self._changed.wait_for(lambda: not self._open(wanted), min(_HEAD_START_SECONDS, self._wait))
        while (waited := time.monotonic() - began) < self._wait:
            running = self._open(wanted)
            if not running or (waited >= _WAIT_FOR_SLOW_SECONDS and all(map(self._is_slow, running))):
                return
            self._start_threads(_THREADS)
            due = [self._calls[key] + self._time_limit(key) - time.monotonic() for key in running if key in self._calls]
            step = min(self._wait, _WAIT_FOR_SLOW_SECONDS) if waited < _WAIT_FOR_SLOW_SECONDS else self._wait
            # calls that start from now on are not stuck before the timeout
            self._changed.wait(max(0.0, min([step - waited, self._timeout, *due])))

    def _open(self, wanted: Iterable[K]) -> list[K]:
        """Return the keys that wait for a thread, or whose call is not stuck yet."""
        stuck = self._stuck()
        waiting = set(self._queue) if self._active() > 0 or not self._are_many_stuck() else set()
        return [key for key in wanted if key in waiting or (key in self._calls and key not in stuck)]

    def _time_limit(self, key: K) -> float:
        result = self._results.get(key)
        return max(self._timeout, min(2 * result.seconds, _MAX_TIME_LIMIT_SECONDS)) if result else self._timeout

    def _stuck(self) -> set[K]:
        now = time.monotonic()
        return {key for key, began in self._calls.items() if now - began >= self._time_limit(key)}

    def _reading(self, key: K) -> Reading[T]:
        if key in self._stuck() or self._is_stuck_elsewhere(key):
            return Reading("stuck")
        result = self._results.get(key)
        if result is not None:
            return result.reading
        return Reading("stuck" if key in self._queue and self._are_many_stuck() else "pending")

    def _is_stuck_elsewhere(self, key: K) -> bool:
        began = self._running.get(key) if key not in self._calls else None
        return began is not None and time.monotonic() - began >= self._time_limit(key)

    def _start_threads(self, maximum: int) -> None:
        """Start threads for the queue, at most ``maximum`` active ones: stuck threads do not count."""
        while len(self._queue) > self._threads - len(self._calls) and self._active() < self._limit(maximum):
            if self._are_many_stuck() and not self._is_fast(self._queue[0]):
                if self._has_risked_one:
                    return
                self._has_risked_one = True
            try:
                self._pool.submit(_Work(self._work))
            except RuntimeError:
                if self._active() > 0:  # the active ones read the rest of the queue
                    return
                raise
            self._threads += 1

    def _active(self) -> int:
        return self._threads - len(self._stuck())

    def _are_many_stuck(self) -> bool:
        return len(self._stuck()) >= _MANY_STUCK_THREADS

    def _limit(self, maximum: int) -> int:
        """Return how many threads may be active.

        One more when the next key was fast the last time, so that it does not wait for slow keys. With many threads
        stuck, only such keys are read.
        """
        if self._queue and self._is_fast(self._queue[0]):
            return maximum + 1
        stuck = len(self._stuck())
        return maximum if stuck < _MANY_STUCK_THREADS else int(stuck < _MAX_STUCK_THREADS)

    def _work(self) -> None:
        """Read keys until none is left, or until this thread was stuck and another one replaced it."""
        with self._changed:
            while self._queue and self._active() <= self._limit(_THREADS):
                key = self._queue.popleft()
                self._calls[key] = self._running[key] = began = time.monotonic()
                self._changed.release()
                try:
                    reading = self._call(key)
                finally:
                    self._changed.acquire()
                del self._calls[key]
                self._running.pop(key, None)
                self._results[key] = _Result(reading, time.monotonic() - began)
            self._threads -= 1
            self._changed.notify_all()  # not after each key, which would wake the waiting thread for nothing

    def _call(self, key: K) -> Reading[T]:
        try:
            return Reading("ok", self._read(key), self._now())
        except Exception:  # noqa: BLE001 - one key's failure must not end the thread, which reads others
            return Reading("error", None, self._now())
