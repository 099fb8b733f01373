"""Replies that were passed on to their end before they were parsed: the rest of each, a part at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelhost_exporter.proxy.account import Account

_MAX_WAITING = 32
"""Each holds up to 2 MiB; beyond that the rest of a reply is not parsed."""


class LateParsing:
    """Parses one part of one reply in each turn of the event loop, and records its request at the end."""

    def __init__(self) -> None:
        self._waiting: deque[Account] = deque()
        self._task: asyncio.Task[None] | None = None

    def start(self, account: Account) -> None:
        """Parse the rest of a reply, and record its request then."""
        if len(self._waiting) >= _MAX_WAITING:
            account.stop_parsing()
            account.record()
            return
        self._waiting.append(account)
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())

    def close(self) -> None:
        """Record every request that waits."""
        if self._task is not None:
            self._task.cancel()
        while self._waiting:
            self._waiting.popleft().record()

    async def _run(self) -> None:
        try:
            while self._waiting:
                account = self._waiting[0]
                account.catch_up()
                if account.is_behind:
                    self._waiting.rotate(-1)
                else:
                    self._waiting.popleft().record()
                await asyncio.sleep(0)
        finally:
            self._task = None
