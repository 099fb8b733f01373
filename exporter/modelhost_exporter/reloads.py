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
    """Why a reload failed, in one line; the old configuration is in force."""


class Reloads:
    """Run a reload in a thread for each request, or one for all requests that come during another."""

    def __init__(self, reload: Callable[[], None], not_started: Callable[[Exception], ReloadFailed]) -> None:
        """Prepare; ``reload`` blocks and may raise ReloadFailed, and is never run twice at the same time.

        ``not_started`` is given any other error (no thread left), and returns the one for those that wait.
        """
        self._reload = reload
        self._not_started = not_started
        self._running: asyncio.Task[None] | None = None
        self._next: asyncio.Future[None] | None = None
        self.during: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext
        """What surrounds each reload, on the event loop."""

    async def request(self) -> None:
        """Return once a reload is over that began after this call; raises what that reload raised."""
        await asyncio.shield(self.start())

    def start(self) -> asyncio.Future[None]:
        """Request a reload; the future holds the outcome of one that begins after this call."""
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
            except Exception as error:  # noqa: BLE001 - no thread left, say
                outcome.set_exception(self._not_started(error))
            else:
                outcome.set_result(None)
            del outcome  # the frames of an error are this one
        self._running = None


def _retrieve(outcome: asyncio.Future[None]) -> None:
    """Mark an error as seen: a signal waits for no outcome."""
    if not outcome.cancelled():
        outcome.exception()
