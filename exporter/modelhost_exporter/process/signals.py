"""Signals: SIGTERM and SIGINT stop the exporter, SIGHUP reloads its configuration."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Stop:
    """A request to stop the exporter, and a second one to stop it at once."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.forced = asyncio.Event()

    def request(self) -> None:
        """Stop; when called again, stop at once."""
        (self.forced if self.requested.is_set() else self.requested).set()


def handle(stop: Stop, reload: Callable[[], object]) -> None:
    """Request a stop on SIGTERM and SIGINT, and call ``reload`` on SIGHUP where the platform has it."""
    loop = asyncio.get_running_loop()
    actions: dict[str, Callable[[], object]] = {"SIGTERM": stop.request, "SIGINT": stop.request, "SIGHUP": reload}
    for name, action in actions.items():
        number = getattr(signal, name, None)
        if number is None:
            continue
        try:
            loop.add_signal_handler(number, action)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_, action=action: loop.call_soon_threadsafe(action))
