"""An abstract Unix socket of the web server, for health checks by the user that runs it (Linux only).

A health check runs beside the exporter: in its container, or as its user. Through this socket it needs neither a
certificate nor a password, of which the configuration has only a hash; it also works while clients use up the limits of
an address. The kernel reports the user at the other end, which both sides check. An abstract socket needs no folder
that can be written, and ends with its process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
import sys
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

_CREDENTIALS = struct.Struct("3i")  # struct ucred: process, user, group
_ROOT = 0


def is_supported() -> bool:
    """Return whether this system has abstract sockets."""
    return sys.platform == "linux"


def name(user: int, port: int) -> str:
    """Return the name of the socket of an exporter on a port."""
    return f"\0modelhost-exporter/health/{user}/{port}"


async def listen(protocol: Callable[[], asyncio.Protocol], port: int) -> asyncio.Server | None:
    """Serve a protocol to this user and root; None where that is not possible, which is logged."""
    if not is_supported():
        return None
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        listener.bind(name(os.getuid(), port))
        return await asyncio.get_running_loop().create_unix_server(lambda: _Checked(protocol), sock=listener)
    except OSError as error:
        listener.close()
        fields = {"port": port, "error": error.strerror or str(error)}
        log.warning("no socket for health checks: modelhost-exporter healthcheck will fail", extra={"fields": fields})
        return None


def connect(port: int, timeout: float) -> socket.socket:
    """Return a connection to the exporter on a port; raises OSError, and PermissionError if it is another user's."""
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        opened.settimeout(timeout)
        opened.connect(name(os.getuid(), port))
        _require_trust(opened)
    except BaseException:
        opened.close()
        raise
    return opened


def _require_trust(connected: socket.socket) -> None:
    if not is_trusted(connected):
        raise PermissionError("the socket for health checks belongs to another user")


def is_trusted(connected: socket.socket) -> bool:
    """Return whether the process at the other end runs as this user or as root."""
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return _CREDENTIALS.unpack(raw)[1] in (os.getuid(), _ROOT)


class _Checked(asyncio.Protocol):
    """Hands a connection over to another protocol if its client is trusted, else closes it."""

    def __init__(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        self._protocol = protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Check who the client is."""
        stream = cast("asyncio.Transport", transport)
        with socket.socket(fileno=os.dup(stream.get_extra_info("socket").fileno())) as same:
            trusted = is_trusted(same)
        if not trusted:
            stream.abort()
            return
        protocol = self._protocol()
        stream.set_protocol(protocol)
        protocol.connection_made(stream)
