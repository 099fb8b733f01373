"""The loop of the live feed: measure, add to the history, publish."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter import threads
from modelhost_exporter.live.history import History
from modelhost_exporter.live.message_builder import MessageConstants
from modelhost_exporter.live.meter import Meter, MeterSource, read_source
from modelhost_exporter.live.subscribers import Subscribers
from modelhost_exporter.logs.state_log import StateLog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelhost_exporter.live.message import LiveMessage
    from modelhost_exporter.live.meter import TimedReading

log = logging.getLogger(__name__)

_AFTER_REQUEST_SECONDS = 90.0
_FIRST_MESSAGE_SECONDS = 5.0


class _Update(NamedTuple):
    """A new message and its JSON."""

    message: LiveMessage
    encoded: bytes


class Broadcaster:
    """The live feed for subscribers and single requests; used on the event loop.

    It measures while there are subscribers or a history, or after a single request. Measuring, adding to the history
    and encoding take milliseconds and run in a thread.
    """

    def __init__(self, source: MeterSource, interval_seconds: float) -> None:
        """Prepare; nothing is measured before ``start``."""
        self.subscribers = Subscribers()
        self._source = source
        self._interval = interval_seconds
        self._requested_until = 0.0
        self._message: LiveMessage | None = None
        self._has_message = asyncio.Event()
        self._begun = asyncio.Event()
        self._history: History | None = None
        self._encoded_history: dict[bool, asyncio.Future[bytes]] = {}
        self._woken = asyncio.Event()
        self._failing = StateLog(initial=False)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start to measure whenever messages are wanted."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Stop measuring, and close the subscribers' connections."""
        self.subscribers.end()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def wake(self) -> None:
        """Check at once whether messages are wanted; to be called for each new subscriber."""
        self._woken.set()

    async def message(self) -> LiveMessage | None:
        """Return the newest message, measured now where there are no subscribers; None where that takes too long.

        A second request within 90 s has rates as well.
        """
        self._requested_until = time.monotonic() + _AFTER_REQUEST_SECONDS
        if self._message is None:
            self.wake()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FIRST_MESSAGE_SECONDS):
                    await self._has_message.wait()
        return self._message

    async def history(self, *, zipped: bool = False) -> bytes:
        """Return the history as JSON, with gzip if ``zipped``, and empty where it is off.

        Requests between two messages share one encoding.
        """
        if self._source.config.live.history:
            await self._begun.wait()
        if zipped not in self._encoded_history:
            history = self._history or History(self._interval, self._interval)
            self._encoded_history[zipped] = threads.call(history.encode_zipped if zipped else history.encode)
        return await asyncio.shield(self._encoded_history[zipped])

    def _is_wanted(self) -> bool:
        wanted = self._source.config.live.history or time.monotonic() < self._requested_until
        return wanted or len(self.subscribers) > 0

    async def _run(self) -> None:
        """Publish messages while they are wanted, until cancelled."""
        while True:
            if self._is_wanted():
                await self._publish_while_wanted()
                self._forget()
            self._woken.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._woken.wait()

    async def _publish_while_wanted(self) -> None:
        clock = asyncio.get_running_loop().time
        constants = MessageConstants.of_this_exporter(self._interval, demo=self._source.demo)
        meter = Meter(partial(read_source, self._source), constants)
        await self._begin(meter)
        due = clock()
        while self._is_wanted():
            self._history = self._wanted_history()
            update = await self._measure(meter)
            if update is not None:
                self._publish(update)
            due = max(due + self._interval, clock())
            await asyncio.sleep(due - clock())

    async def _begin(self, meter: Meter) -> None:
        """Put the time before the start into the meter and the history; only once, and dropped then."""
        readings = self._source.earlier_readings
        if readings and not self._begun.is_set():
            history = self._wanted_history()
            await threads.call(partial(_add_earlier, readings, meter, history))
            self._history = history
            self._source.earlier_readings = ()
        self._begun.set()

    async def _measure(self, meter: Meter) -> _Update | None:
        """Return the next message; None where measuring failed, which is logged once."""
        try:
            update = await threads.call(partial(_next_update, meter, self._history))
        except Exception:
            if self._failing.changed(state=True):
                log.exception("the live feed cannot be measured")
            return None
        self._failing.changed(state=False)
        return update

    def _publish(self, update: _Update) -> None:
        self._encoded_history = {}
        self._message = update.message
        self._has_message.set()
        self.subscribers.publish(update.encoded)

    def _forget(self) -> None:
        """Drop what would be outdated when messages are wanted again."""
        self._encoded_history = {}
        self._message, self._history = None, None
        self._has_message.clear()
        self.subscribers.forget()

    def _wanted_history(self) -> History | None:
        """Return the history that the configuration in force wants: the current one, a new one or None."""
        options = self._source.config.live
        if not options.history:
            return None
        if self._history is not None and self._history.seconds == options.history_length:
            return self._history
        return History(options.history_length, self._interval)


def _add_earlier(readings: Sequence[TimedReading], meter: Meter, history: History | None) -> None:
    """Compute the messages of earlier readings. Blocks."""
    for reading in readings:
        when, message = meter.message_of(reading)
        if history is not None:
            history.add(when, message)


def _next_update(meter: Meter, history: History | None) -> _Update:
    """Measure, add the message to the history, and encode it. Blocks."""
    when, message = meter.measure()
    if history is not None:
        history.add(when, message)
    return _Update(message, json.dumps(message, allow_nan=False, separators=(",", ":")).encode())
