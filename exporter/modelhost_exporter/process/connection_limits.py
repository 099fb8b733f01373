"""Timeouts and limits of a port's connections: who is admitted, and who is closed to make room or for being overdue."""

from __future__ import annotations

import asyncio
import ipaddress
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from modelhost_exporter.process.connection_activity import Timeouts
from modelhost_exporter.process.descriptors import ACCEPT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from modelhost_exporter.process.descriptors import Descriptors

CONNECTION_LIMIT = "connection_limit"
ADDRESS_LIMIT = "address_limit"
DESCRIPTORS = "descriptors"

_SWEEP_SECONDS, _SWEEPS_PER_TIMEOUT = 1.0, 4
_SWEPT_AT_ONCE = 128
"""Connections examined in one turn of the event loop: each takes about 2 µs, which delays what is forwarded."""
_IPV6_NETWORK_BITS = 64  # what one customer has


class LimitSettings(Timeouts, Protocol):
    """The timeouts and limits in force."""

    @property
    def max_connections(self) -> int:
        """Most connections at the same time."""
        ...

    @property
    def max_connections_per_address(self) -> int:
        """Most connections of one client at the same time."""
        ...


class Closeable(Protocol):
    """A connection that is subject to limits. It counts why it is closed."""

    @property
    def address(self) -> str:
        """The client that it counts for."""
        ...

    def overdue(self, now: float, settings: LimitSettings) -> str | None:
        """Return the reason to close it now; None while no timeout has expired."""
        ...

    def precedence(self, now: float) -> tuple[int, float] | None:
        """Return the sort key for closing connections to make room, lowest first; None while it must stay."""
        ...

    def close_for(self, reason: str) -> bool:
        """Count the reason and close it; return False if a response is sent first."""
        ...

    def refuse_for(self, reason: str) -> None:
        """Count the reason and close a new connection with 503."""
        ...


_ConnectionT = TypeVar("_ConnectionT", bound=Closeable)


class ConnectionLimits(Generic[_ConnectionT]):
    """All connections of one port, or of several that share limits.

    When a limit is reached, a new connection replaces one that may be closed; without such a one it is refused.
    Connections are kept in the order of their last request.
    """

    def __init__(
        self,
        settings: Callable[[], LimitSettings],
        descriptors: Descriptors,
        make_room: Callable[[], bool] = lambda: False,
        *,
        share: float = 1.0,
    ) -> None:
        """Prepare.

        ``make_room`` closes an idle connection of another part and returns whether there was one; ``share`` is how
        much of the reserve of file descriptors must stay free.
        """
        self._settings = settings
        self.descriptors = descriptors
        self._make_room_elsewhere = make_room
        self._share = share
        self._connections: OrderedDict[_ConnectionT, None] = OrderedDict()
        self._by_address: dict[str, OrderedDict[_ConnectionT, None]] = {}
        self._sweeping: asyncio.Handle | None = None

    def admit(self, connection: _ConnectionT) -> bool:
        """Return whether a new connection may stay; if necessary another one is closed for it."""
        self.descriptors.opened()
        refused = self._refusal(connection)
        if refused is not None:
            connection.refuse_for(refused)
            return False
        self._connections[connection] = None
        self._by_address.setdefault(connection.address, OrderedDict())[connection] = None
        if self._sweeping is None:
            self._schedule_sweep()
        return True

    def note_request(self, connection: _ConnectionT) -> None:
        """Move a connection to the end of the order in which connections are closed to make room."""
        if connection in self._connections:
            self._connections.move_to_end(connection)
            self._by_address[connection.address].move_to_end(connection)

    def lost(self, connection: _ConnectionT) -> None:
        """Remove a closed connection, whether it was admitted or not."""
        self.descriptors.closed()
        self._remove(connection)

    def spare_descriptor(self) -> bool:
        """Close a connection, of another part first, for its file descriptor; return whether there was one."""
        return self._make_room_elsewhere() or self._make_room(self._connections, DESCRIPTORS)

    def _refusal(self, connection: _ConnectionT) -> str | None:
        """Return the reason to refuse a new connection, after an attempt to close another; None to admit it."""
        settings = self._settings()
        of_address = self._by_address.get(connection.address, ())
        if len(of_address) >= settings.max_connections_per_address:
            if not self._make_room(of_address, ADDRESS_LIMIT):
                return ADDRESS_LIMIT
        elif len(self._connections) >= settings.max_connections and not self._make_room(
            self._connections, CONNECTION_LIMIT
        ):
            return CONNECTION_LIMIT
        has_room = self.descriptors.make_room(ACCEPT, self.spare_descriptor, share=self._share)
        return None if has_room else DESCRIPTORS

    def _make_room(self, connections: Iterable[_ConnectionT], reason: str) -> bool:
        """Close the connection with the lowest precedence; return whether there was one.

        Connections are in the order of their last request, so the first one that is idle has waited longest: a flood
        of connections causes no long search.
        """
        now = loop_time()
        best: tuple[tuple[int, float], _ConnectionT] | None = None
        for each in connections:
            precedence = each.precedence(now)
            if precedence is not None and (best is None or precedence < best[0]):
                best = precedence, each
                if not precedence[0]:
                    break
        if best is None:
            return False
        self._close(best[1], reason)
        return True

    def _close(self, connection: _ConnectionT, reason: str) -> None:
        if connection.close_for(reason):
            self._remove(connection)

    def _remove(self, connection: _ConnectionT) -> None:
        self._connections.pop(connection, None)
        of_address = self._by_address.get(connection.address)
        if of_address is not None:
            of_address.pop(connection, None)
            if not of_address:
                del self._by_address[connection.address]

    def _schedule_sweep(self) -> None:
        """Schedule the next sweep while connections exist."""
        self._sweeping = None
        if not self._connections:
            return
        settings = self._settings()
        shortest = min(settings.header_timeout, settings.idle_timeout, settings.body_timeout, settings.send_timeout)
        delay = min(_SWEEP_SECONDS, shortest / _SWEEPS_PER_TIMEOUT)
        self._sweeping = asyncio.get_running_loop().call_later(delay, self._begin_sweep)

    def _begin_sweep(self) -> None:
        self._sweep(list(self._connections))

    def _sweep(self, connections: list[_ConnectionT]) -> None:
        """Close those that are overdue, a part of them in each turn of the event loop."""
        settings, now = self._settings(), loop_time()
        for connection in connections[-_SWEPT_AT_ONCE:]:
            if connection in self._connections:
                reason = connection.overdue(now, settings)
                if reason is not None:
                    self._close(connection, reason)
        del connections[-_SWEPT_AT_ONCE:]
        if connections:
            self._sweeping = asyncio.get_running_loop().call_soon(self._sweep, connections)
        else:
            self._schedule_sweep()


def loop_time() -> float:
    """Return the time of the event loop's clock."""
    return asyncio.get_running_loop().time()


def client_of(transport: asyncio.BaseTransport) -> str:
    """Return the client for limits per address: an IPv4 address, or an IPv6 network of 64 bits."""
    peer = transport.get_extra_info("peername")
    if not isinstance(peer, tuple):  # not a TCP socket
        return ""
    try:
        address = ipaddress.ip_address(str(peer[0]).partition("%")[0])
    except ValueError:
        return str(peer[0])
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _IPV6_NETWORK_BITS), strict=False))
