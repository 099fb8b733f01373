"""Listening for each proxied server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, cast

from aiohttp import web

from modelhost_exporter.process.listening import listen
from modelhost_exporter.proxy.connection import Server
from modelhost_exporter.proxy.connections import DownstreamConnections
from modelhost_exporter.proxy.exchange import Exchange
from modelhost_exporter.proxy.health import ProxyHealth
from modelhost_exporter.proxy.target import target_for
from modelhost_exporter.proxy.upstream import MAX_FIELD_BYTES
from modelhost_exporter.requests.metrics import RequestMetrics

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from modelhost_exporter.process.descriptors import Descriptors
    from modelhost_exporter.proxy.settings import ProxyServer, ProxySettings
    from modelhost_exporter.proxy.target import Target
    from modelhost_exporter.requests.metrics import Recorded

_KEEPALIVE_SECONDS = 75.0


def _silent() -> logging.Logger:
    """Return a logger that says nothing: aiohttp's would log what clients sent and their addresses."""
    logger = logging.Logger("modelhost_exporter.proxy.silent")  # noqa: LOG001 - not to be found under its name, hence never set up
    logger.disabled = True
    return logger


class Proxy:
    """All proxied servers: a port each, one set of metrics."""

    def __init__(
        self,
        settings: ProxySettings,
        registry: CollectorRegistry,
        stop_seconds: float,
        recorded: Recorded | None = None,
        descriptors: Descriptors | None = None,
    ) -> None:
        """Prepare; ``recorded`` is told of every request that is over. None for ``descriptors``: there is no limit."""
        self.servers = settings.servers
        self._stop_seconds = stop_seconds
        self.metrics = RequestMetrics(registry, recorded)
        self.health = ProxyHealth(registry)
        self.connections = DownstreamConnections(descriptors, self.health)
        self._targets: list[Target] = []
        self._runners: list[web.ServerRunner] = []
        self._lag: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Stop listening; requests under way have ``stop_seconds`` to end."""
        if self._lag is not None:
            self._lag.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._lag
        await asyncio.gather(*(runner.cleanup() for runner in self._runners))
        for target in self._targets:
            await target.close()

    async def listen(self, server: ProxyServer) -> int:
        """Listen for one server and return the port; OSError when that cannot be."""
        if self._lag is None:
            self._lag = asyncio.ensure_future(self.health.watch_loop())
        target = target_for(server, self.metrics, self.health, self.connections)
        self._targets.append(target)

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            return cast("web.StreamResponse", await Exchange(target, request).run())

        async def refuse(request: web.BaseRequest) -> web.StreamResponse:
            return cast("web.StreamResponse", await Exchange(target, request).refuse())

        low_level = Server(
            handle,
            refuse,
            server.name,
            self.connections,
            handler_cancellation=True,
            auto_decompress=False,
            access_log=None,
            logger=_silent(),
            max_line_size=MAX_FIELD_BYTES,
            max_field_size=MAX_FIELD_BYTES,
            keepalive_timeout=_KEEPALIVE_SECONDS,
        )
        runner = web.ServerRunner(low_level, shutdown_timeout=self._stop_seconds)
        await runner.setup()
        self._runners.append(runner)
        self.connections.add(server.name, low_level)
        await listen(runner, server.listen)
        port: int = runner.addresses[0][1]
        return port
