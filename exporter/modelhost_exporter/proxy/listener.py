"""The listener of one proxied server: its settings can be replaced while requests are under way."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

from aiohttp import web

from modelhost_exporter.process import listening
from modelhost_exporter.proxy.connection import DownstreamServer
from modelhost_exporter.proxy.exchange import Exchange
from modelhost_exporter.proxy.upstream import MAX_FIELD_BYTES
from modelhost_exporter.proxy.use_count import UseCount

if TYPE_CHECKING:
    from modelhost_exporter.config.address import Address
    from modelhost_exporter.proxy.connections import DownstreamConnections
    from modelhost_exporter.proxy.target import Target

_KEEPALIVE_SECONDS = 75.0


def _silent() -> logging.Logger:
    """Return a disabled logger: aiohttp's would log what clients sent and their addresses."""
    logger = logging.Logger("modelhost_exporter.proxy.silent")  # noqa: LOG001 - not to be found under its name, hence never set up
    logger.disabled = True
    return logger


class Listener:
    """Accepts connections for one server. Each request goes to the target that is set when it begins."""

    def __init__(self, target: Target, connections: DownstreamConnections, stop_seconds: float) -> None:
        """Prepare; ``stop_seconds`` is how long requests under way may take when it is closed."""
        self.target = target
        self._uses = UseCount()  # of requests to this target and those before it
        self._connections = connections
        self._http = DownstreamServer(
            self._forward,
            self._refuse,
            target.name,
            connections,
            handler_cancellation=True,
            auto_decompress=False,
            access_log=None,
            logger=_silent(),
            max_line_size=MAX_FIELD_BYTES,
            max_field_size=MAX_FIELD_BYTES,
            keepalive_timeout=_KEEPALIVE_SECONDS,
        )
        self._runner = web.ServerRunner(self._http, shutdown_timeout=stop_seconds)

    @property
    def address(self) -> Address:
        """Where it listens, as configured."""
        return self.target.settings.listen

    @property
    def port(self) -> int:
        """The port that it listens on."""
        port: int = self._runner.addresses[0][1]
        return port

    async def listen(self) -> None:
        """Listen; CannotListen when that is not possible."""
        await self._runner.setup()
        try:
            await listening.listen(self._runner, self.address)
        except (OSError, ValueError) as error:
            await self._runner.cleanup()
            raise listening.CannotListen(
                f"cannot listen on {self.address} for {self.target.name}: {listening.reason(error)}"
            ) from error
        self._connections.add(self.target.name, self._http)

    def replace_target(self, target: Target) -> Target:
        """Use another target for the requests to come; return the one before."""
        before, self.target = self.target, target
        self._connections.remove(before.name, self._http)
        self._http.rename(target.name)
        self._connections.add(target.name, self._http)
        return before

    async def drain(self) -> None:
        """Stop listening, let all requests under way end, and close; when cancelled, close at once."""
        for site in list(self._runner.sites):
            await site.stop()
        self._http.pre_shutdown()
        try:
            await self._uses.idle()
        finally:
            await self.close()

    async def close(self) -> None:
        """Stop listening; requests under way have ``stop_seconds`` to end."""
        self._connections.remove(self.target.name, self._http)
        await self._runner.cleanup()
        await self.target.close()

    async def _forward(self, request: web.BaseRequest) -> web.StreamResponse:
        target = self.target
        with self._uses, target.uses:
            return cast("web.StreamResponse", await Exchange(target, request).run())

    async def _refuse(self, request: web.BaseRequest) -> web.StreamResponse:
        target = self.target
        with self._uses, target.uses:
            return cast("web.StreamResponse", await Exchange(target, request).refuse())
