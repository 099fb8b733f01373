"""The event loop of the benchmarks: uvloop's if it is installed, as in the exporter."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's factory; None for asyncio's own loop."""
    try:
        import uvloop  # noqa: PLC0415 - not on Windows
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def run(work: Coroutine[None, None, T]) -> T:
    """Run a coroutine in a new event loop."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(work)
