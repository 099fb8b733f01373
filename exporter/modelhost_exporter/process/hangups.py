"""Notice that the other side has closed a connection that is not being read."""

from __future__ import annotations

import asyncio
import contextlib
import select
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Hangups:
    """Connections whose reading is paused; used on the event loop.

    An event loop does not watch a paused connection at all. EPOLLRDHUP reports its end without reading what was
    received before. Systems other than Linux do not have it: there the end is noticed when reading goes on.
    """

    def __init__(self) -> None:
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._epoll: select.epoll | None = None

    def watch(self, descriptor: int, callback: Callable[[], None]) -> None:
        """Call a function once when the other side closes or resets the connection of a socket."""
        if sys.platform != "linux":
            return
        with contextlib.suppress(OSError):  # no descriptor is left: noticed later
            if self._epoll is None:
                self._epoll = select.epoll()
                asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._on_events)
            self._epoll.register(descriptor, select.EPOLLRDHUP | select.EPOLLONESHOT)
            self._callbacks[descriptor] = callback

    def forget(self, descriptor: int) -> None:
        """Stop watching a socket, which must still be open."""
        if self._callbacks.pop(descriptor, None) is not None and self._epoll is not None:
            with contextlib.suppress(OSError):  # the kernel has forgotten a closed one
                self._epoll.unregister(descriptor)

    def close(self) -> None:
        """Watch nothing any more."""
        self._callbacks.clear()
        if self._epoll is not None:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _on_events(self) -> None:
        if self._epoll is None:
            return
        for descriptor, _ in self._epoll.poll(0):
            callback = self._callbacks.get(descriptor)
            self.forget(descriptor)
            if callback is not None:
                callback()
