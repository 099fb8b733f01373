"""The web port's connections: closed ones are counted by reason, and unsent data is bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from modelhost_exporter.metrics.instruments import live_counter
from modelhost_exporter.process.connection_limits import ConnectionLimits, loop_time
from modelhost_exporter.web import families
from modelhost_exporter.web.connection import LimitedConnection

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

    from modelhost_exporter.config.model import Web
    from modelhost_exporter.process.descriptors import Descriptors

_MAX_HELD_BYTES = 32 << 20
_READ_BUFFER_BYTES = 1 << 12
_LINGERING = 2.0  # aiohttp's own body timeout, in multiples of ours, so that the sweep closes first
_FOR_FILES = 0.5


class WebConnectionLimits(ConnectionLimits[LimitedConnection]):
    """All connections to the web port."""

    def __init__(
        self,
        settings: Callable[[], Web],
        registry: CollectorRegistry,
        descriptors: Descriptors,
        make_room: Callable[[], bool] = lambda: False,
    ) -> None:
        """Prepare; ``make_room`` closes an idle connection of another part and returns whether there was one."""
        super().__init__(settings, descriptors, make_room, share=_FOR_FILES)
        self.settings = settings
        self._closed = live_counter(families.CLOSED, registry)
        for reason in families.REASONS:  # series start at 0, so that rate() sees the first closed connection
            self._closed.labels(reason)

    def count(self, reason: str) -> None:
        """Count a connection that is closed because of a limit."""
        self._closed.labels(reason).inc()

    def note_stall(self, connection: LimitedConnection) -> None:
        """Close other connections, those stalled longest first, while unsent data exceeds its limit."""
        held = {each: size for each in self._connections if (size := each.held_bytes)}
        total, now = sum(held.values()), loop_time()
        if total <= _MAX_HELD_BYTES:
            return
        for each in sorted(held.keys() - {connection}, key=lambda each: each.stalled_since(now)):
            self._close(each, families.UNSENT_LIMIT)
            total -= held[each]
            if total <= _MAX_HELD_BYTES:
                return


class LimitedRunner(web.AppRunner):
    """An ``aiohttp.web.AppRunner`` with limits on connections."""

    def __init__(
        self,
        app: web.Application,
        limits: WebConnectionLimits,
        shutdown_timeout: float,
        protect: Callable[[asyncio.Protocol], asyncio.Protocol] = lambda protocol: protocol,
    ) -> None:
        """Prepare; ``protect`` returns the protocol for a new connection, which decrypts for the one it gets."""
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
        self._protect = protect

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        return LimitedServer(server, self._limits, self._protect)

    @property
    def limited_server(self) -> LimitedServer:
        """The server; available after ``setup``."""
        assert isinstance(self.server, LimitedServer)  # noqa: S101 - made above
        return self.server


class LimitedServer(web.Server):
    """A server whose connections are ``LimitedConnection``."""

    def __init__(
        self,
        server: web.Server,
        limits: WebConnectionLimits,
        protect: Callable[[asyncio.Protocol], asyncio.Protocol],
    ) -> None:
        super().__init__(
            server.request_handler,
            request_factory=server.request_factory,
            handler_cancellation=server.handler_cancellation,
            **server._kwargs,  # noqa: SLF001 - aiohttp has no public access to them
        )
        self._limits = limits
        self._protect = protect

    def __call__(self) -> asyncio.Protocol:  # type: ignore[override] # what asyncio's create_server calls
        """Return the protocol for a new connection."""
        return self._protect(LimitedConnection(self, self._limits, loop=self._loop, **self._kwargs))

    def internal_connection(self) -> LimitedConnection:
        """Return the protocol of a connection from this process, which needs neither TLS nor a password."""
        connection = LimitedConnection(self, self._limits, loop=self._loop, **self._kwargs)
        connection.is_internal = True
        return connection
