"""Entries of ``servers:`` for engines that were found on this machine."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from modelhost_exporter.config.address import Address
from modelhost_exporter.config.http_url import ServerUrl
from modelhost_exporter.config.servers import ProxyOptions, Server
from modelhost_exporter.process.listening import can_listen
from modelhost_exporter.process.own_addresses import addresses_of, is_own

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from modelhost_exporter.engines.local_engines import LocalEngine

PROXY_PORT_OFFSET = 10_000
"""The proxy of an engine that was found listens on the engine's port plus this, or on the next port that is free."""
_MAX_TRIED_PORTS = 50
_MAX_PORT = 2**16 - 1
_LOOPBACK = "127.0.0.1"


class FoundServers:
    """The servers of found engines, which keep their names and proxies while the engines are there."""

    def __init__(self, is_free: Callable[[Address], bool] | None = None) -> None:
        """``is_free`` returns whether an address can be listened on; None: try it."""
        self._is_free = is_free or can_listen
        self._names: dict[int, tuple[str, str]] = {}
        """Kind and name by port."""
        self._proxies: dict[int, Address] = {}

    def servers(
        self, engines: Sequence[LocalEngine], configured: Sequence[Server], *, proxied: bool
    ) -> tuple[Server, ...]:
        """Return a server for each engine that is not configured, with a proxy if ``proxied``.

        It is called ``ollama``, and ``ollama-11435`` where another server has that name.
        """
        urls = [url for server in configured for url in server.upstreams]
        new = [engine for engine in engines if not any(_reaches(url, engine) for url in urls)]
        self._forget_all_but({engine.port for engine in new})
        names = {server.name for server in configured}
        return tuple(self._server(engine, names, proxied=proxied) for engine in new)

    def _forget_all_but(self, ports: Collection[int]) -> None:
        self._names = {port: name for port, name in self._names.items() if port in ports}
        self._proxies = {port: address for port, address in self._proxies.items() if port in ports}

    def _server(self, engine: LocalEngine, configured: Collection[str], *, proxied: bool) -> Server:
        listen = self._proxy_address(engine.port) if proxied else None
        return Server(
            self._name(engine, configured),
            ServerUrl.from_text(engine.url),
            kind=engine.kind,
            proxy=None if listen is None else ProxyOptions(listen),
        )

    def _name(self, engine: LocalEngine, configured: Collection[str]) -> str:
        kind, name = self._names.get(engine.port, ("", ""))
        if kind != engine.kind or name in configured:
            taken = {*configured, *(name for port, (_, name) in self._names.items() if port != engine.port)}
            name = engine.kind if engine.kind not in taken else f"{engine.kind}-{engine.port}"
            self._names[engine.port] = engine.kind, name
        return name

    def _proxy_address(self, port: int) -> Address | None:
        """Return where the proxy of an engine on a port listens; None where no port is free."""
        if port not in self._proxies:
            first = port + PROXY_PORT_OFFSET if port + PROXY_PORT_OFFSET <= _MAX_PORT else port - PROXY_PORT_OFFSET
            tried = (Address(_LOOPBACK, first + further) for further in range(_MAX_TRIED_PORTS))
            free = next((one for one in tried if one.port <= _MAX_PORT and self._is_free(one)), None)
            if free is None:
                return None
            self._proxies[port] = free
        return self._proxies[port]


def _reaches(url: ServerUrl, engine: LocalEngine) -> bool:
    """Return whether a URL leads to a port of this machine. Names are resolved only where the ports are equal."""
    if url.url.port != engine.port:
        return False
    host = url.url.raw_host or ""
    return host.casefold() == socket.gethostname().casefold() or any(map(is_own, addresses_of(host)))
