"""Reject servers whose requests would come back to this exporter."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from modelhost_exporter.config.parsing import ConfigError
from modelhost_exporter.process.own_addresses import addresses_of, is_own

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelhost_exporter.config.address import Address
    from modelhost_exporter.config.http_url import ServerUrl
    from modelhost_exporter.config.servers import Server
    from modelhost_exporter.process.own_addresses import IpAddress

_LOOPBACK = {4: ipaddress.ip_address("127.0.0.1"), 6: ipaddress.ip_address("::1")}


def reject_loops(places: Sequence[str], servers: Sequence[Server]) -> None:
    """Reject a proxy that would forward to itself, directly or through others: one request would never end.

    ``places`` name the servers in errors.
    """
    proxied = [server for server in servers if server.proxy is not None]
    for place, server in zip(places, servers, strict=True):
        loop = _loop(server, proxied)
        if loop is not None:
            raise ConfigError(place, f"the proxy forwards to itself: {' -> '.join(each.name for each in loop)}")


def reject_own_web(places: Sequence[str], servers: Sequence[Server], web: Sequence[Address]) -> None:
    """Reject a server at an address of the exporter's own web page."""
    for place, server in zip(places, servers, strict=True):
        for url in server.upstreams:
            if any(_reaches(url, address) for address in web):
                raise ConfigError(place, f"{url.text} is this exporter's own page (web.listen_addresses)")


def _loop(server: Server, proxied: Sequence[Server]) -> Sequence[Server] | None:
    """Return the servers through which a server's proxy forwards to itself; None where it does not."""
    seen = {server.name}
    waiting = [[server]]
    while waiting:
        passed = waiting.pop()
        for following in _next_hops(passed[-1], proxied):
            if following is server:
                return [*passed, server]
            if following.name not in seen:
                seen.add(following.name)
                waiting.append([*passed, following])
    return None


def _next_hops(server: Server, proxied: Sequence[Server]) -> list[Server]:
    """Return the servers whose proxies a server's proxy forwards to."""
    if server.proxy is None:
        return []
    return [
        following
        for following in proxied
        if following.proxy is not None and any(_reaches(url, following.proxy.listen) for url in server.upstreams)
    ]


def _reaches(url: ServerUrl, listen: Address) -> bool:
    """Return whether a URL leads to a listener of this machine. Names are resolved only where the ports are equal."""
    host = url.url.raw_host or ""
    if not listen.port or url.url.port != listen.port:
        return False
    if host.lower() == listen.host.lower():
        return True
    listened = addresses_of(listen.host)
    return any(_leads_to(target, address) for target in addresses_of(host) for address in listened)


def _leads_to(target: IpAddress, listened: IpAddress) -> bool:
    """Return whether a connection to one address reaches a listener on another."""
    if target.version != listened.version:
        return False
    if target.is_unspecified:  # the system connects to itself
        target = _LOOPBACK[target.version]
    return is_own(target) if listened.is_unspecified else target == listened
