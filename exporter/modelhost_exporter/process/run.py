"""One run of a function, and a function of which at most one run is in progress."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from modelhost_exporter.process.error_frames import without_frames

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Run(Generic[T]):
    """One run of a function. ``value`` or ``error``, and ``seconds``, are set once ``wait`` has returned True.

    The error has no traceback: its frames would refer to this run, a reference cycle.
    """

    value: T
    error: BaseException | None = None
    seconds: float = 0.0

    def __init__(self) -> None:
        self.started = time.monotonic()
        """When it was asked for; once the function is called, when that was."""
        self.is_begun = False
        """Whether a thread has begun to execute it, of those that may."""
        self._finished = threading.Event()

    def wait(self, seconds: float) -> bool:
        """Wait at most until ``seconds`` after the start; return whether the run is finished."""
        return self.wait_until(self.started + seconds)

    def wait_until(self, deadline: float) -> bool:
        """Wait at most until ``deadline`` (monotonic); return whether the run is finished."""
        return self._finished.wait(max(0.0, deadline - time.monotonic()))

    def is_finished(self) -> bool:
        """Return whether the run is finished."""
        return self._finished.is_set()

    def age(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self.started

    def execute(self, function: Callable[[], T]) -> None:
        """Call the function, keep its result or exception, and finish."""
        self.started = time.monotonic()
        try:
            self.value = function()
        except BaseException as error:  # noqa: BLE001 - kept in the run
            self.error = without_frames(error)
        self.seconds = self.age()
        self._finished.set()

    def fail(self, error: BaseException) -> None:
        """Finish without a call."""
        self.error = without_frames(error)
        self._finished.set()


class Asked(NamedTuple, Generic[T]):
    """The run that a caller gets, and the function that it is a run of."""

    function: SingleRun[T]
    run: Run[T]
    is_new: bool
    """Whether nobody else has asked for this run."""


class SingleRun(Generic[T]):
    """A function of which at most one run is in progress; who asks for another one meanwhile shares it."""

    def __init__(self, function: Callable[[], T], before: SingleRun[T] | None = None) -> None:
        """Prepare; as long as ``before``, which this one replaces, has a run in progress, that one is shared."""
        self._function = function
        self._before = before
        self._lock = threading.Lock()
        self._current: Run[T] | None = None

    def begin(self) -> Asked[T]:
        """Return the run in progress, or a new one. The caller has to execute it unless it has begun.

        So does everyone who shares it: a run does not wait for a caller that is slow to execute it, or has failed to.
        """
        with self._lock:
            if self._before is not None:
                if (asked := self._before.in_progress()) is not None:
                    return asked
                self._before = None
            if self._current is not None and not self._current.is_finished():
                return Asked(self, self._current, is_new=False)
            self._current = Run()
            return Asked(self, self._current, is_new=True)

    def execute(self, run: Run[T]) -> None:
        """Call the function, unless another thread does. Raises MemoryError where there is none to end the run with."""
        if not self._claim(run):
            return
        try:
            run.execute(self._call_and_reset)
        except MemoryError:  # this run never finishes; the next is another
            self._reset()
            raise

    def fail(self, run: Run[T], error: BaseException) -> None:
        """Finish a run without a call, unless it has begun."""
        if self._claim(run):
            run.fail(error)

    def _claim(self, run: Run[T]) -> bool:
        """Return True to the first who asks for a run."""
        with self._lock:
            if run.is_begun:
                return False
            run.started = time.monotonic()
            run.is_begun = True
            return True

    def in_progress(self) -> Asked[T] | None:
        """Return the run in progress here, or in those that this one replaces."""
        one: SingleRun[T] | None = self
        while one is not None:  # one for each reload during a run that hangs
            with one._lock:  # noqa: SLF001 - of the same class
                if one._current is not None and not one._current.is_finished():  # noqa: SLF001
                    return Asked(one, one._current, is_new=False)  # noqa: SLF001
                one = one._before  # noqa: SLF001
        return None

    def _call_and_reset(self) -> T:
        try:
            return self._function()
        finally:
            self._reset()

    def _reset(self) -> None:
        with self._lock:
            self._current = None
