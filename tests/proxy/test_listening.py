"""The ports that the proxy listens on, which the search for engines leaves out."""

from __future__ import annotations

import socket

import psutil
from prometheus_client import CollectorRegistry

from modelhost_exporter.config.address import Address
from modelhost_exporter.config.http_url import ServerUrl
from modelhost_exporter.proxy.server import Proxy
from modelhost_exporter.proxy.settings import ProxiedServer


async def test_every_port_is_its_own() -> None:
    """For any free port, IPv4 and IPv6 get ports that differ."""
    proxy = Proxy(CollectorRegistry())
    try:
        for name in ("a", "b"):
            await proxy.listen(ProxiedServer(name, Address("", 0), (ServerUrl.from_text("http://192.0.2.1:1"),)))
        sockets = psutil.Process().net_connections("tcp")
        ports = {one.laddr.port for one in sockets if one.status == psutil.CONN_LISTEN}
        assert proxy.ports
        assert proxy.ports == ports
        assert len(ports) == 2 * (2 if socket.has_dualstack_ipv6() else 1)
    finally:
        await proxy.close()
