"""Downstream connections of the proxy while file descriptors are short: idle ones make room for new ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.process.descriptors import ACCEPT, CONNECT, Descriptors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    from modelhost_exporter.proxy.health import ProxyHealth

    class Idle(Protocol):
        """A listener's connections."""

        def idle(self) -> Iterator[IdleConnection]:
            """Yield the connections without a request, those that are open longest first."""
            ...

    class IdleConnection(Protocol):
        """A connection that can be closed."""

        def abort(self) -> None:
            """Close it at once."""
            ...


class DownstreamConnections:
    """All listeners' connections, and the descriptors that they may use."""

    def __init__(self, descriptors: Descriptors | None, health: ProxyHealth) -> None:
        """Prepare; None where there is no limit."""
        self.descriptors = descriptors or Descriptors()
        self._health = health
        self._listeners: dict[str, Idle] = {}

    def add(self, server: str, listener: Idle) -> None:
        """Add the listener of a server."""
        self._listeners[server] = listener

    def remove(self, server: str, listener: Idle) -> None:
        """Remove a listener, unless another one has taken its server's place."""
        if self._listeners.get(server) is listener:
            del self._listeners[server]

    def admit(self, server: str) -> bool:
        """Count a new connection and return whether it may stay; a refusal is counted too."""
        self.opened()
        if self._has_room(ACCEPT):
            return True
        self._health.connection_closed(server)
        return False

    def opened(self) -> None:
        """Count a connection, of either side."""
        self.descriptors.opened()

    def closed(self) -> None:
        """Count a connection no more."""
        self.descriptors.closed()

    def can_connect(self) -> bool:
        """Return whether there is a descriptor for a connection to an upstream."""
        return self._has_room(CONNECT)

    def note_shortage(self) -> None:
        """Count a connection to an upstream that failed for want of a descriptor."""
        self.descriptors.note(CONNECT)

    def close_idle(self) -> bool:
        """Close the idle connection that is open longest; return whether there is one."""
        for server, listener in self._listeners.items():
            for connection in listener.idle():
                self._health.connection_closed(server)
                connection.abort()
                return True
        return False

    def _has_room(self, operation: str) -> bool:
        return self.descriptors.make_room(operation, self.close_idle)
