"""Count what is in progress, and wait until nothing is."""

from __future__ import annotations

import asyncio


class UseCount:
    """The number of blocks that are entered with it; used on the event loop."""

    def __init__(self) -> None:
        self._count = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def __enter__(self) -> None:
        self._count += 1
        self._idle.clear()

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if not self._count:
            self._idle.set()

    async def idle(self) -> None:
        """Return once no block is entered."""
        await self._idle.wait()
