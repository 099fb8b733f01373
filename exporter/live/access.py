"""Who may watch: any web page can make a browser ask 127.0.0.1, so only the page's own requests are answered.

A page elsewhere is known by its ``Origin``; one whose name was made to point here (DNS rebinding) by its ``Host``, in
which that name stands. A client that is no browser sends no ``Origin``.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING

from exporter.live.settings import Host

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from multidict import CIMultiDictProxy

    from exporter.live.settings import Origin

_HTTP_PORT = 80
_OWN_SITES = ("same-origin", "none")


class Refused(Exception):
    """A request that is not the page's own; says why."""


def check(
    headers: CIMultiDictProxy[str],
    port: int,
    allowed_hosts: Collection[Host],
    allowed_origins: Collection[Origin],
    machine: str | None = None,
) -> Mapping[str, str]:
    """Return the headers that let an allowed page read the answer; raises Refused.

    ``port`` is the one the request came to, ``machine`` the machine's own name.
    """
    hosts = headers.getall("Host", [])
    if len(hosts) != 1 or not is_own_host(hosts[0], port, allowed_hosts, machine or socket.gethostname()):
        raise Refused("this Host is neither this machine nor listed (web.allowed_hosts)")
    origins = headers.getall("Origin", [])
    if not origins:
        if headers.get("Sec-Fetch-Site", "none") not in _OWN_SITES:  # an image or script of another page
            raise Refused("asked by another site")
        return {}
    origin = origins[0].lower()
    if len(origins) == 1 and origin in (f"http://{hosts[0].lower()}", f"https://{hosts[0].lower()}"):
        return {}
    if len(origins) == 1 and any(origin == allowed.text for allowed in allowed_origins):
        return {"Access-Control-Allow-Origin": origins[0], "Vary": "Origin"}
    raise Refused("this Origin is neither the page's own nor listed (web.allowed_origins)")


def is_own_host(text: str, port: int, allowed: Collection[Host], machine: str) -> bool:
    """Tell whether a Host header names this machine, by a name nobody else can claim, and the port; or is allowed."""
    try:
        host = Host.from_text(text)
    except ValueError:
        return False
    if any(host.name == other.name and other.port in (None, host.port) for other in allowed):
        return True
    short = machine.lower().partition(".")[0]
    names = ("localhost", machine.lower(), short, f"{short}.local")
    return (host.port or _HTTP_PORT) == port and (host.name in names or _is_address(host.name))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
