"""The proxy: a listener for each proxied server, one set of metrics, and replacing listeners on a reload."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.config.address import Address
from modelhost_exporter.process import listening
from modelhost_exporter.proxy.connections import DownstreamConnections
from modelhost_exporter.proxy.health import ProxyHealth
from modelhost_exporter.proxy.listener import Listener
from modelhost_exporter.proxy.target import target_for
from modelhost_exporter.requests.metrics import RequestMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from prometheus_client import CollectorRegistry

    from modelhost_exporter.process.descriptors import Descriptors
    from modelhost_exporter.proxy.settings import ProxiedServer
    from modelhost_exporter.proxy.target import Target
    from modelhost_exporter.requests.listener import ObservationListener

log = logging.getLogger(__name__)

_PREPARE_SECONDS = 30.0


class Proxy:
    """All proxied servers; used on the event loop."""

    def __init__(
        self,
        registry: CollectorRegistry,
        stop_seconds: float,
        listeners: Sequence[ObservationListener] = (),
        descriptors: Descriptors | None = None,
        detected_kind: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        """Prepare; ``listeners`` receive every finished request. None for ``descriptors``: there is no limit.

        ``detected_kind`` returns the kind of a server's engine where polling has detected it.
        """
        self._detected_kind = detected_kind
        self._stop_seconds = stop_seconds
        self.metrics = RequestMetrics(registry, listeners)
        self.health = ProxyHealth(registry)
        self.connections = DownstreamConnections(descriptors, self.health)
        self._listeners: list[Listener] = []
        self._draining: set[asyncio.Task[None]] = set()
        self._lag: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Stop listening; requests under way have ``stop_seconds`` to end."""
        if self._lag is not None:
            self._lag.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._lag
        for task in self._draining:
            task.cancel()  # each closes what it waited for
        await asyncio.gather(*(listener.close() for listener in self._listeners))
        await asyncio.gather(*self._draining, return_exceptions=True)

    async def listen(self, server: ProxiedServer) -> int:
        """Listen for one more server and return the port; CannotListen when that is not possible."""
        listener = await self._listener(server)
        self._listeners.append(listener)
        return listener.port

    async def prepare(self, servers: Sequence[ProxiedServer]) -> ProxyChange:
        """Listen for the servers that are new; nothing else changes before the change is put in force.

        CannotListen when one of them cannot: then none of them does.
        """
        free = list(self._listeners)
        kept: list[tuple[Listener, ProxiedServer]] = []
        new: list[ProxiedServer] = []
        for server in servers:
            listener = next((one for one in free if _serves(one, server)), None)
            if listener is None:
                new.append(server)
            else:
                free.remove(listener)
                kept.append((listener, server))
        started: list[Listener] = []
        try:
            for server in new:
                listener = await self._listener(server)
                started.append(listener)
        except BaseException:
            for listener in started:
                await listener.close()
            raise
        return ProxyChange(kept, started, free)

    async def _listener(self, server: ProxiedServer) -> Listener:
        if self._lag is None:
            self._lag = asyncio.ensure_future(self.health.watch_loop())
        target = self._target(server)
        listener = Listener(target, self.connections, self._stop_seconds)
        try:
            await listener.listen()
        except BaseException:
            await target.close()
            raise
        _log_listening(server, listener.port)
        return listener

    def _target(self, server: ProxiedServer) -> Target:
        return target_for(server, self.metrics, self.health, self.connections, self._detected_kind)

    def put_in_force(self, change: ProxyChange) -> None:
        """Use new settings for the requests to come; stop listening for what is gone, and let its requests end."""
        for listener, server in change.kept:
            if listener.target.settings != server:
                target = self._target(server)
                self._in_background(_close_once_idle(listener.replace_target(target)))
        for listener in change.removed:
            fields = {"server": listener.target.name, "address": str(Address(listener.address.host, listener.port))}
            log.info("no longer proxying", extra={"fields": fields})
            self._in_background(listener.drain())
        self._listeners = [*(listener for listener, _ in change.kept), *change.started]

    def undo(self, change: ProxyChange) -> None:
        """Stop listening for the servers that are new."""
        for listener in change.started:
            self._in_background(listener.close())

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)


class ProxyChange(NamedTuple):
    """The listeners after a reload: those that stay, with their settings, the new ones, and those that are gone."""

    kept: Sequence[tuple[Listener, ProxiedServer]]
    started: Sequence[Listener]
    removed: Sequence[Listener]


class ReloadedProxy:
    """Changes the listeners of a proxy from the thread of a reload."""

    def __init__(self, proxy: Proxy, loop: asyncio.AbstractEventLoop) -> None:
        self._proxy = proxy
        self._loop = loop

    def prepare(self, servers: Sequence[ProxiedServer]) -> ThreadsafeChange:
        """Listen for new servers; blocks. CannotListen, or TimeoutError, when that fails; nothing has changed then."""
        preparing = asyncio.run_coroutine_threadsafe(self._proxy.prepare(servers), self._loop)
        try:
            change = preparing.result(_PREPARE_SECONDS)
        except TimeoutError:
            preparing.cancel()
            raise
        return ThreadsafeChange(self._proxy, change, self._loop)


class ThreadsafeChange(NamedTuple):
    """A change of listeners that another thread puts in force or undoes."""

    proxy: Proxy
    change: ProxyChange
    loop: asyncio.AbstractEventLoop

    def put_in_force(self) -> None:
        """Put the change in force soon, on the event loop."""
        self.loop.call_soon_threadsafe(self.proxy.put_in_force, self.change)

    def undo(self) -> None:
        """Undo the change soon, on the event loop."""
        self.loop.call_soon_threadsafe(self.proxy.undo, self.change)


async def _close_once_idle(target: Target) -> None:
    try:
        await target.uses.idle()
    finally:
        await target.close()


def _serves(listener: Listener, server: ProxiedServer) -> bool:
    """Return whether a listener can go on for a server: the same address, and for any free port the same name."""
    return listener.address == server.listen and (server.listen.port != 0 or listener.target.name == server.name)


def _log_listening(server: ProxiedServer, port: int) -> None:
    address = str(Address(server.listen.host, port))
    fields = {
        "server": server.name,
        "address": address,
        "url": f"http://{listening.url_address(server.listen, port)}",
        "upstream": server.upstream.text,
    }
    log.info("proxying", extra={"fields": fields})
    if server.listen.is_every_address:
        limit = f'servers: proxy: listen: "127.0.0.1:{port}", or a firewall, or authentication in front of it'
        log.warning(
            "listening on every address without authentication",
            extra={"fields": {"server": server.name, "address": address, "limit": limit}},
        )
