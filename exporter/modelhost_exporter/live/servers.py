"""The model servers of the message: what is polled, whether it responds, and where clients reach it through a proxy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.config.address import is_loopback

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelhost_exporter.config.servers import Server
    from modelhost_exporter.live.family_lookup import Families
    from modelhost_exporter.live.message import ServerMessage

MAX_SERVERS = 100


def servers(families: Families, configured: Sequence[Server]) -> list[ServerMessage]:
    """Return the servers that are polled or configured, by name."""
    about = {
        sample.labels["server"]: (sample.labels["kind"], sample.labels["version"])
        for sample in families.samples("engine_info")
    }
    up = {server: value for (server,), value in families.highest("engine_up", "server").items()}
    by_name = {server.name: server for server in configured}
    running, waiting = (families.by(f"engine_requests_{state}", "server") for state in ("running", "waiting"))
    return [
        {
            "name": name,
            "kind": about.get(name, ("", ""))[0] or None,
            "version": about.get(name, ("", ""))[1] or None,
            "up": None if name not in up else bool(up[name]),
            "address": _address(by_name.get(name)),
            "proxyAddress": _proxy_address(by_name.get(name)),
            "requestsRunning": running.get((name,)),
            "requestsWaiting": waiting.get((name,)),
        }
        for name in sorted({*up, *by_name})[:MAX_SERVERS]
    ]


def _address(server: Server | None) -> str | None:
    """Return host and port of a server on this machine; addresses of others are nobody's business on the page."""
    if server is None or server.url is None or not is_loopback(server.url.url.raw_host or ""):
        return None
    return server.url.host_port


def _proxy_address(server: Server | None) -> str | None:
    """Return where clients reach a server through its proxy; None without one, and where its port is any free one."""
    if server is None or server.proxy is None or not server.proxy.listen.port:
        return None
    return str(server.proxy.listen)
