"""A daemon thread that runs an action periodically."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from modelhost_exporter.logs.state_log import StateLog
from modelhost_exporter.process.daemon_thread import start

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

_OUT_OF_MEMORY_SECONDS = 1.0


class WakeableEvent(threading.Event):
    """An event; a wait for it can be ended without setting it."""

    def wake(self) -> None:
        """End the waits in progress."""
        with self._cond:  # type: ignore[attr-defined] # the condition that Event waits for, in every version of Python
            self._cond.notify_all()  # type: ignore[attr-defined]


class PeriodicThread:
    """Runs an action in a daemon thread, with a pause after each run, until ``stopped`` is set.

    An error never ends the thread. The first of several failed runs in a row is logged.
    """

    def __init__(  # noqa: PLR0913 - action, schedule and end
        self,
        action: Callable[[], object],
        pause_seconds: Callable[[int], float],
        name: str,
        *,
        stopped: threading.Event | None = None,
        at_once: bool = True,
        close: Callable[[], object] | None = None,
    ) -> None:
        """Start the thread; raises RuntimeError when the machine has none left.

        A run fails when it raises or returns False. ``pause_seconds`` is called with the number of consecutive
        failures. With ``at_once=False`` the thread pauses before the first run. It calls ``close`` before it ends.
        """
        self.stopped = stopped or threading.Event()
        self._action = action
        self._pause_seconds = pause_seconds
        self._name = name
        self._at_once = at_once
        self._close = close
        self._raising = StateLog(initial=False)
        self._thread = start(self._run, name)

    def stop(self) -> None:
        """End the thread after the run in progress; does not wait for it."""
        self.stopped.set()

    def is_alive(self) -> bool:
        """Return whether the thread has begun and not ended."""
        return self._thread.is_alive()

    def join(self, seconds: float) -> bool:
        """Wait for the end for at most ``seconds``; return whether the thread has ended."""
        return self._thread.join(seconds)

    def _run(self) -> None:
        failures = 0
        if not self._at_once:
            self._wait(failures)
        while not self.stopped.is_set():
            failures = 0 if self._succeeds() else failures + 1
            self._wait(failures)
        if self._close is not None:
            self._close()

    def _wait(self, failures: int) -> None:
        try:
            self.stopped.wait(self._pause_seconds(failures))
        except MemoryError:  # waiting for an event allocates a lock
            time.sleep(_OUT_OF_MEMORY_SECONDS)

    def _succeeds(self) -> bool:
        try:
            result = self._action()
            self._raising.changed(state=False)
        except MemoryError:  # not logged, which needs memory too
            return False
        except BaseException:  # includes SystemExit, which a library may raise
            if self._raising.changed(state=True):
                log.exception("a periodic task failed; it is run again", extra={"fields": {"thread": self._name}})
            return False
        return result is not False
