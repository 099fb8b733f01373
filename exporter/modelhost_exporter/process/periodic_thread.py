"""A daemon thread that runs an action again and again."""

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


class PeriodicThread:
    """Runs an action in a daemon thread, with a pause after each run, until ``stopped`` is set.

    An error never ends the thread. It is logged when runs begin to raise, not each time.
    """

    def __init__(  # noqa: PLR0913 - what, when, until when
        self,
        action: Callable[[], object],
        pause_seconds: Callable[[int], float],
        name: str,
        *,
        stopped: threading.Event | None = None,
        at_once: bool = True,
        close: Callable[[], object] | None = None,
    ) -> None:
        """Start the thread; RuntimeError when the machine has none left.

        A run fails when it raises or returns False. ``pause_seconds`` gets the number of failures in a row. Without
        ``at_once`` a pause comes first. ``close`` is called by the thread before it ends.
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
        """Let the thread end; does not wait for a run in progress."""
        self.stopped.set()

    def is_alive(self) -> bool:
        """Return whether the thread has begun and not ended."""
        return self._thread.is_alive()

    def join(self, seconds: float) -> bool:
        """Wait for the end, at most so long; return whether the thread has ended."""
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
        except MemoryError:  # a log line would need memory too
            return False
        except BaseException:  # a library's SystemExit would end the thread
            if self._raising.changed(state=True):
                log.exception("a periodic task failed; it is run again", extra={"fields": {"thread": self._name}})
            return False
        return result is not False
