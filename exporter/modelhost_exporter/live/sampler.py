"""The clock of the live feed: measure every two seconds while there are subscribers or a history."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import TYPE_CHECKING

from modelhost_exporter import threads
from modelhost_exporter.logs.state_log import StateLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelhost_exporter.live.message import Message
    from modelhost_exporter.live.meter import Meter

log = logging.getLogger(__name__)


class MessageSampler:
    """Measures in a thread for as long as ``is_wanted``, with a new meter each time that begins.

    ``publish`` is given each message with its JSON, on the event loop, and None when it is wanted no more.
    """

    def __init__(
        self,
        make_meter: Callable[[], Meter],
        is_wanted: Callable[[], bool],
        publish: Callable[[tuple[Message, bytes] | None], None],
        interval_seconds: float,
    ) -> None:
        self._make_meter = make_meter
        self._is_wanted = is_wanted
        self._publish = publish
        self._interval = interval_seconds
        self._woken = asyncio.Event()
        self._failing = StateLog(initial=False)

    def wake(self) -> None:
        """Check at once whether to measure."""
        self._woken.set()

    async def run(self) -> None:
        """Go on until it is cancelled."""
        while True:
            if self._is_wanted():
                await self._measure_while_wanted()
                self._publish(None)
            self._woken.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._woken.wait()

    async def _measure_while_wanted(self) -> None:
        clock = asyncio.get_running_loop().time
        meter, due = self._make_meter(), clock()
        while self._is_wanted():
            await self._measure(meter)
            due = max(due + self._interval, clock())
            await asyncio.sleep(due - clock())

    async def _measure(self, meter: Meter) -> None:
        """Measure and publish; a failure costs one message, and is logged when it is new."""
        try:
            news = await threads.call(lambda: _encoded(meter.read()))
        except Exception:
            if self._failing.changed(state=True):
                log.exception("the live feed cannot be measured")
            return
        self._failing.changed(state=False)
        self._publish(news)


def _encoded(message: Message) -> tuple[Message, bytes]:
    return message, json.dumps(message, allow_nan=False, separators=(",", ":")).encode()
