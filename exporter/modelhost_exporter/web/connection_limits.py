"""Timeouts and limits for connections to the web port; closed connections are counted by reason."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from modelhost_exporter.metrics.instruments import live_counter
from modelhost_exporter.process.descriptors import ACCEPT
from modelhost_exporter.web import families
from modelhost_exporter.web.connection import LimitedConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client import CollectorRegistry

    from modelhost_exporter.config.model import Web
    from modelhost_exporter.process.descriptors import Descriptors

_MAX_HELD_BYTES = 32 << 20
_READ_BUFFER_BYTES = 1 << 12
_SWEEP_SECONDS, _SWEEPS_PER_TIMEOUT = 1.0, 4
_LINGERING = 2.0  # aiohttp's own body timeout, in multiples of ours, so that the sweep here closes first
_FOR_FILES = 0.5
_BUSY = "the web port has no room for another connection ({})\n"
_WAYS_OUT = {
    families.ADDRESS_LIMIT: "web.max_connections_per_address",
    families.CONNECTION_LIMIT: "web.max_connections",
    families.DESCRIPTORS: "out of file descriptors",
}


class ConnectionLimits:
    """All connections to the web port. When a limit is reached, a new connection replaces one that is waiting.

    A new connection is refused only when every other one that counts for the limit is being served.
    """

    def __init__(
        self,
        settings: Callable[[], Web],
        registry: CollectorRegistry,
        descriptors: Descriptors,
        make_room: Callable[[], bool] = lambda: False,
    ) -> None:
        """Prepare; ``make_room`` closes an idle connection of another part and returns whether there was one."""
        self.settings = settings
        self._closed = live_counter(families.CLOSED, registry)
        for reason in families.REASONS:  # series start at 0, so that rate() sees the first closed connection
            self._closed.labels(reason)
        self._descriptors = descriptors
        self._make_room_elsewhere = make_room
        self._connections: dict[LimitedConnection, None] = {}
        self._by_address: dict[str, dict[LimitedConnection, None]] = {}
        self._sweeping: asyncio.TimerHandle | None = None

    def count(self, reason: str) -> None:
        """Count a connection that is closed because of a limit."""
        self._closed.labels(reason).inc()

    def admit(self, connection: LimitedConnection) -> bool:
        """Return whether a new connection may stay; if necessary another one is closed for it."""
        self._descriptors.opened()
        refused = self._refusal(connection)
        if refused is not None:
            self.count(refused)
            connection.answer_and_close(_unavailable(_BUSY.format(_WAYS_OUT[refused])))
            return False
        self._connections[connection] = None
        self._by_address.setdefault(connection.address, {})[connection] = None
        if self._sweeping is None:
            self._sweep()
        return True

    def note_request(self, connection: LimitedConnection) -> None:
        """Move a connection to the end of the order in which connections are closed to make room."""
        for group in (self._connections, self._by_address.get(connection.address, {})):
            if connection in group:
                del group[connection]
                group[connection] = None

    def lost(self, connection: LimitedConnection) -> None:
        """Remove a closed connection, whether it was admitted or not."""
        self._descriptors.closed()
        self._remove(connection)

    def note_stall(self, connection: LimitedConnection) -> None:
        """Close other connections, those stalled longest first, while unsent data exceeds its limit."""
        held = {each: size for each in self._connections if (size := each.held_bytes)}
        total, now = sum(held.values()), _now()
        if total <= _MAX_HELD_BYTES:
            return
        for each in sorted(held.keys() - {connection}, key=lambda each: each.stalled_since(now)):
            self._close(each, families.UNSENT_LIMIT)
            total -= held[each]
            if total <= _MAX_HELD_BYTES:
                return

    def _refusal(self, connection: LimitedConnection) -> str | None:
        """Return the reason to refuse a new connection, after an attempt to close another; None to admit it."""
        settings = self.settings()
        of_address = self._by_address.get(connection.address, {})
        if len(of_address) >= settings.max_connections_per_address:
            if not self._make_room(of_address, families.ADDRESS_LIMIT):
                return families.ADDRESS_LIMIT
        elif len(self._connections) >= settings.max_connections and not self._make_room(
            self._connections, families.CONNECTION_LIMIT
        ):
            return families.CONNECTION_LIMIT
        has_room = self._descriptors.make_room(ACCEPT, self._spare_descriptor, share=_FOR_FILES)
        return None if has_room else families.DESCRIPTORS

    def _spare_descriptor(self) -> bool:
        """Close a waiting connection of the proxy or of the web port; return whether there was one."""
        return self._make_room_elsewhere() or self._make_room(self._connections, families.DESCRIPTORS)

    def _make_room(self, connections: Iterable[LimitedConnection], reason: str) -> bool:
        """Close the connection with the lowest precedence; return whether there was one.

        Connections are in the order of their last request, so the first one that is idle has waited longest: a flood
        of connections causes no long search.
        """
        now = _now()
        best: tuple[tuple[int, float], LimitedConnection] | None = None
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

    def _close(self, connection: LimitedConnection, reason: str) -> None:
        self.count(reason)
        self._remove(connection)
        connection.abort()

    def _remove(self, connection: LimitedConnection) -> None:
        self._connections.pop(connection, None)
        of_address = self._by_address.get(connection.address)
        if of_address is not None:
            of_address.pop(connection, None)
            if not of_address:
                del self._by_address[connection.address]

    def _sweep(self) -> None:
        """Close overdue connections; schedule the next sweep while connections exist."""
        settings, now = self.settings(), _now()
        for connection in tuple(self._connections):
            reason = connection.overdue(now, settings)
            if reason is not None:
                self._close(connection, reason)
        shortest = min(settings.header_timeout, settings.idle_timeout, settings.body_timeout, settings.send_timeout)
        delay = min(_SWEEP_SECONDS, shortest / _SWEEPS_PER_TIMEOUT)
        self._sweeping = asyncio.get_running_loop().call_later(delay, self._sweep) if self._connections else None


class LimitedRunner(web.AppRunner):
    """An ``aiohttp.web.AppRunner`` with limits on connections."""

    def __init__(self, app: web.Application, limits: ConnectionLimits, shutdown_timeout: float) -> None:
        settings = limits.settings()
        super().__init__(
            app,
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=shutdown_timeout,
            auto_decompress=False,  # no route reads a body, and a small one may decompress to gigabytes
            lingering_time=settings.body_timeout * _LINGERING,
            max_line_size=settings.max_header_bytes,
            max_field_size=settings.max_header_bytes,
            read_bufsize=_READ_BUFFER_BYTES,
        )
        self._limits = limits

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        return _Server(server, self._limits)


class _Server(web.Server):
    """A server whose connections are ``LimitedConnection``."""

    def __init__(self, server: web.Server, limits: ConnectionLimits) -> None:
        super().__init__(
            server.request_handler,
            request_factory=server.request_factory,
            handler_cancellation=server.handler_cancellation,
            **server._kwargs,  # noqa: SLF001 - aiohttp has no public access to them
        )
        self._limits = limits

    def __call__(self) -> LimitedConnection:
        return LimitedConnection(self, self._limits, loop=self._loop, **self._kwargs)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _unavailable(text: str) -> bytes:
    head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(text)}\r\n\r\n{text}".encode()
