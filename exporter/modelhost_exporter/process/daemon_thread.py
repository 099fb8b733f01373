"""Daemon threads whose start cannot block forever."""

from __future__ import annotations

import _thread
import logging
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

BEGIN_SECONDS = 2.0

_running: set[Thread] = set()


class Thread:
    """A daemon thread that starts without the wait of ``threading.Thread.start``.

    That wait never ends if the new thread runs out of memory before it has begun (python/cpython issue 140746).
    """

    def __init__(self, work: Callable[[], object], name: str) -> None:
        self.name = name
        self._work = work
        self._claim = _thread.allocate_lock()
        """Held by the thread once it has begun, or by the caller that stopped waiting for it."""
        self._begun = _thread.allocate_lock()
        self._ended = _thread.allocate_lock()
        self._begun.acquire()
        self._ended.acquire()

    def start(self, wait_seconds: float | None = None) -> None:
        """Start; with ``wait_seconds`` wait until the thread has begun.

        Raises RuntimeError when the machine has no thread or no memory left, or when the thread does not begin in time;
        it does not begin later either.
        """
        try:
            _thread.start_new_thread(self._run, ())
        except MemoryError as error:
            raise RuntimeError("can't start new thread: out of memory") from error
        if wait_seconds is None or self._begun.acquire(timeout=wait_seconds):
            return
        if self._claim.acquire(blocking=False):
            raise RuntimeError(f"can't start new thread: it has not begun within {wait_seconds:g} s")

    def is_alive(self) -> bool:
        """Return whether the thread has begun and not ended."""
        return self in _running

    def join(self, seconds: float) -> bool:
        """Wait for the end for at most ``seconds``; return whether the thread has ended."""
        if self._ended.acquire(timeout=seconds):
            self._ended.release()
            return True
        return False

    def _run(self) -> None:
        if not self._claim.acquire(blocking=False):
            return
        _running.add(self)
        self._begun.release()
        sys.settrace(threading.gettrace())  # as threading.Thread does, for debuggers and coverage
        try:
            self._work()
        except BaseException:
            log.exception("a thread ended with an error", extra={"fields": {"thread": self.name}})
        finally:
            _running.discard(self)
            self._ended.release()


def start(work: Callable[[], object], name: str) -> Thread:
    """Start a thread and wait until it has begun, for at most 2 s; raises RuntimeError when there is none left."""
    thread = Thread(work, name)
    thread.start(BEGIN_SECONDS)
    return thread


def running() -> list[Thread]:
    """Return the threads that were started here and have not ended."""
    return list(_running)


def names() -> list[str]:
    """Return the names of the threads that were started here and have not ended."""
    return [thread.name for thread in running()]
