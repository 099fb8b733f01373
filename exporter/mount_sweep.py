"""Asking every mounted file system for its space, when any of them may never answer."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from exporter.daemon_thread import start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

T = TypeVar("T")


class MountSweep(Generic[T]):
    """Asks mounts one after the other, and goes on without those that hang.

    A call to a dead network mount cannot be ended. The thread that made it is left behind (one a mount at the
    most), the others are asked by a new one, and the mount is not asked again until its call has returned.
    """

    def __init__(self, ask: Callable[[str], T], stuck_after_seconds: float) -> None:
        self._ask = ask
        self._stuck_after = stuck_after_seconds
        self._stuck: set[str] = set()

    def measure(self, mountpoints: Iterable[str]) -> dict[str, T | None]:
        """Return each mount's answer; None for one that is stuck or refused (OSError)."""
        answers: dict[str, T | None] = dict.fromkeys(mountpoints)
        waiting = [mount for mount in answers if mount not in self._stuck]
        while waiting:
            run = _Run(self._ask, waiting, self._stuck)
            stuck = run.wait(self._stuck_after)
            answers.update(run.answers)
            if stuck is None:
                break
            waiting = waiting[waiting.index(stuck) + 1 :]
        return answers


class _Run(Generic[T]):
    """One thread's walk over some mounts, until one of them is stuck."""

    def __init__(self, ask: Callable[[str], T], mounts: Sequence[str], stuck: set[str]) -> None:
        self.answers: dict[str, T | None] = {}
        self._ask = ask
        self._mounts = mounts
        self._stuck = stuck
        self._abandoned = False
        self._progress = threading.Condition()
        start(self._walk, "mount-sweep")

    def wait(self, stuck_after: float) -> str | None:
        """Wait until all have answered (None), or one took longer than ``stuck_after`` seconds (which).

        That one is in ``stuck`` until its call returns; then the thread ends, and the late answer does not count.
        """
        with self._progress:
            while (done := len(self.answers)) < len(self._mounts):
                if not self._progress.wait_for(partial(self._is_past, done), stuck_after):
                    self._abandoned = True  # while the lock is held: the call may be about to return
                    self._stuck.add(self._mounts[done])
                    return self._mounts[done]
        return None

    def _is_past(self, count: int) -> bool:
        return len(self.answers) > count

    def _walk(self) -> None:
        for mount in self._mounts:
            try:
                answer = self._ask(mount)
            except OSError:
                answer = None
            with self._progress:
                if self._abandoned:
                    self._stuck.discard(mount)
                    return
                self.answers[mount] = answer
                self._progress.notify()
