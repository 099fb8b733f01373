"""Signals: SIGTERM and SIGINT stop the exporter, SIGHUP reloads its configuration."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def handle(stop: asyncio.Event, reload: Callable[[], object]) -> None:
    """Set ``stop`` on SIGTERM and SIGINT, and call ``reload`` on SIGHUP where the platform has it."""
    loop = asyncio.get_running_loop()
    actions: dict[str, Callable[[], object]] = {"SIGTERM": stop.set, "SIGINT": stop.set, "SIGHUP": reload}
    for name, action in actions.items():
        number = getattr(signal, name, None)
        if number is None:
            continue
        try:
            loop.add_signal_handler(number, action)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_, action=action: loop.call_soon_threadsafe(action))
