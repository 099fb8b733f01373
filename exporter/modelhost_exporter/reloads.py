"""Reloads on the event loop: at most one runs and one waits, however many are requested."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from modelhost_exporter import threads

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager


class ReloadFailed(Exception):
    """A reload failed, with the reason in one line; the old configuration is still in force."""


class Reloads:
    """Run reloads in a thread, one at a time; requests that arrive during a reload share the next one."""

    def __init__(self, reload: Callable[[], None], not_started: Callable[[Exception], ReloadFailed]) -> None:
        """Prepare; ``reload`` blocks, may raise ReloadFailed, and never runs twice at the same time.

        ``not_started`` converts any other error, such as a missing thread, into the ReloadFailed for the callers.
        """
        self._reload = reload
        self._not_started = not_started
        self._running: asyncio.Task[None] | None = None
        self._next: asyncio.Future[None] | None = None
        self.during: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext
        """Context manager entered around each reload, on the event loop."""

    async def request(self) -> None:
        """Wait for a reload that began after this call; raises ReloadFailed when that reload failed."""
        await asyncio.shield(self.start())

    def start(self) -> asyncio.Future[None]:
        """Request a reload; return a future with the outcome of one that begins after this call."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
            self._next.add_done_callback(_retrieve)
        if self._running is None or self._running.done():
            self._running = asyncio.get_running_loop().create_task(self._run())
        return self._next

    async def _run(self) -> None:
        """Reload until no request is left."""
        while self._next is not None:
            outcome, self._next = self._next, None
            try:
                with self.during():
                    await threads.call(self._reload)
            except ReloadFailed as error:
                outcome.set_exception(error)
            except Exception as error:  # noqa: BLE001 - such as a missing thread
                outcome.set_exception(self._not_started(error))
            else:
                outcome.set_result(None)
            del outcome  # the frames of its error include this one: a reference cycle
        self._running = None


def _retrieve(outcome: asyncio.Future[None]) -> None:
    """Mark an error as retrieved, else asyncio logs it: nothing awaits a reload that a signal started."""
    if not outcome.cancelled():
        outcome.exception()
