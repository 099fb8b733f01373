"""A connection of this process to its own web port, which needs neither TLS nor a password."""

from __future__ import annotations

import asyncio
import http.client
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class InternalClient:
    """Connects from other threads to a server of an event loop, through a pair of sockets that nobody else can reach.

    The server serves such a connection as one that it accepted, with the same limits.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: Callable[[], asyncio.Protocol]) -> None:
        """Prepare; ``protocol`` returns the server's protocol for a new connection."""
        self._loop = loop
        self._protocol = protocol

    def connect(self) -> http.client.HTTPConnection:
        """Return a new connection; raises OSError where there are no file descriptors."""
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        serving = self._loop.connect_accepted_socket(self._protocol, theirs)
        asyncio.run_coroutine_threadsafe(serving, self._loop)
        connection = http.client.HTTPConnection("localhost")
        connection.auto_open = 0
        connection.sock = ours
        return connection
