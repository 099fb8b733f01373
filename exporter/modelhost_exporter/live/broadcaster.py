"""The live feed of a running exporter: one sampler, its viewers and its history."""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Protocol

from modelhost_exporter import threads
from modelhost_exporter.live import meter
from modelhost_exporter.live.history import History
from modelhost_exporter.live.meter import Meter
from modelhost_exporter.live.sampler import MessageSampler
from modelhost_exporter.live.subscribers import Subscribers

if TYPE_CHECKING:
    from modelhost_exporter.config.model import Config
    from modelhost_exporter.live.message import Message

_AFTER_ASKING_SECONDS = 90.0
_FIRST_MESSAGE_SECONDS = 5.0


class MessageSource(meter.FamilySource, Protocol):
    """The running exporter."""

    config: Config


class Broadcaster:
    """The live feed for subscribers and single requests; used on the event loop."""

    def __init__(self, source: MessageSource, interval_seconds: float) -> None:
        """Prepare; nothing is measured before ``start``."""
        self.viewers = Subscribers()
        self._source = source
        self._interval = interval_seconds
        self._asked_until = 0.0
        self._message: Message | None = None
        self._known = asyncio.Event()
        self._history: History | None = None
        self._page: asyncio.Future[bytes] | None = None
        self._sampler = MessageSampler(self._meter, self._is_wanted, self._publish, interval_seconds)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to measure whenever that is wanted."""
        self._task = asyncio.get_running_loop().create_task(self._sampler.run())

    async def stop(self) -> None:
        """Stop measuring, and close the subscribers' connections."""
        self.viewers.end()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def wake(self) -> None:
        """Measure at once for who has just come."""
        self._sampler.wake()

    async def message(self) -> Message | None:
        """Return the newest message, measured now where there are no subscribers; None where that takes too long.

        A second request within 90 s has rates as well.
        """
        self._asked_until = time.monotonic() + _AFTER_ASKING_SECONDS
        if self._message is None:
            self._sampler.wake()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FIRST_MESSAGE_SECONDS):
                    await self._known.wait()
        return self._message

    async def history(self) -> bytes:
        """Return the history as JSON, empty where it is off; requests between two messages share one."""
        if self._page is None:
            history = self._history or History(self._interval, self._interval)
            self._page = threads.call(history.encode)
        return await asyncio.shield(self._page)

    def _is_wanted(self) -> bool:
        wanted = self._source.config.live.history or time.monotonic() < self._asked_until
        return wanted or len(self.viewers) > 0

    def _meter(self) -> Meter:
        about = meter.about(self._interval, self._source.demo)
        return Meter(partial(meter.measured_by, self._source), self._keep, about)

    def _keep(self, when: float, message: Message) -> None:
        """Add a message to the history that is wanted now; called in the sampler's thread."""
        wanted = self._source.config.live
        if not wanted.history:
            self._history = None
            return
        if self._history is None or self._history.seconds != wanted.history_length:
            self._history = History(wanted.history_length, self._interval)
        self._history.add(when, message)

    def _publish(self, news: tuple[Message, bytes] | None) -> None:
        self._page = None
        if news is None:
            self._message, self._history = None, None
            self._known.clear()
            self.viewers.publish(None)
            return
        self._message, encoded = news
        self._known.set()
        self.viewers.publish(encoded)
