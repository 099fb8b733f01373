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
    """A reload failed, for a reason of one line; the old configuration stays in force."""


class Reloads:
    """Run requested reloads in a thread; all requests during one reload share the next."""

    def __init__(self, reload: Callable[[], None], not_started: Callable[[Exception], ReloadFailed]) -> None:
        """Prepare; ``reload`` blocks, may raise ReloadFailed, and is never run twice at the same time.

        ``not_started`` turns any other error (no thread left) into the ReloadFailed of the requests.
        """
        self._reload = reload
        self._not_started = not_started
        self._running: asyncio.Task[None] | None = None
        self._next: asyncio.Future[None] | None = None
        self.during: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext
        """Returns a context in which each reload runs, on the event loop."""

    async def request(self) -> None:
        """Wait for a reload that begins after this call. Raises ReloadFailed."""
        await asyncio.shield(self.start())

    def start(self) -> asyncio.Future[None]:
        """Request a reload; return a future of one that begins after this call."""
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
            except Exception as error:  # noqa: BLE001 - such as no thread left
                outcome.set_exception(self._not_started(error))
            else:
                outcome.set_result(None)
            del outcome  # an error refers to this frame: a reference cycle
        self._running = None


def _retrieve(outcome: asyncio.Future[None]) -> None:
    """Mark an error as retrieved: after a signal no one awaits the outcome."""
    if not outcome.cancelled():
        outcome.exception()
