"""Listen on a TCP address, and refuse a connection."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from functools import partial
from typing import TYPE_CHECKING, cast

from aiohttp import web

from modelhost_exporter.config.address import Address
from modelhost_exporter.threads import call

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_BACKLOG = 4096
_DISCARDED_BYTES = 1 << 16
_ACCEPTS_AT_ONCE = 4
_NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
"""Errors for ``::`` on a machine without IPv6, where listening on ``0.0.0.0`` still works."""


class CannotListen(Exception):
    """An address that cannot be listened on, with the reason."""


async def listen(runner: web.BaseRunner, address: Address) -> None:
    """Listen with the runner's server; raises OSError or ValueError when that fails.

    Names are resolved in our own threads: libuv, which uvloop uses, aborts the process when it cannot start one.
    asyncio accepts up to ``backlog`` connections in a row, before it can refuse one or close another to make room. So
    asyncio gets a short backlog, and the kernel a long one.
    """
    for listener in await call(partial(_bound_sockets, address)):
        await web.SockSite(runner, listener, backlog=_ACCEPTS_AT_ONCE).start()
        _lengthen_backlog(listener)


async def adopt(runner: web.BaseRunner, listener: socket.socket) -> None:
    """Listen with the runner's server on a socket that listens already: of TCP, or a Unix socket."""
    is_unix = listener.family == getattr(socket, "AF_UNIX", None)
    await (_UnixSite if is_unix else web.SockSite)(runner, listener, backlog=_ACCEPTS_AT_ONCE).start()
    _lengthen_backlog(listener)


class _UnixSite(web.SockSite):
    """A Unix socket that somebody else has made, and whose file stays."""

    async def start(self) -> None:
        await web.BaseSite.start(self)
        serve: Callable[..., Awaitable[asyncio.Server]] = asyncio.get_running_loop().create_unix_server
        protocol, options = self._runner.server, {"sock": self._sock, "backlog": self._backlog}
        try:
            self._server = await serve(protocol, **options, cleanup_socket=False)
        except TypeError:  # a version that never removes the file
            self._server = await serve(protocol, **options)


async def serve(
    protocol: Callable[[], asyncio.Protocol], address: Address, *, reuse_port: bool = False
) -> list[asyncio.Server]:
    """Listen with a protocol, in the same way; return a server for each IP address of the host.

    With ``reuse_port`` another process may listen on the same port if it does so as well.
    """
    loop = asyncio.get_running_loop()
    servers: list[asyncio.Server] = []
    for listener in await call(partial(_bound_sockets, address, reuse_port=reuse_port)):
        servers.append(await loop.create_server(protocol, sock=listener, backlog=_ACCEPTS_AT_ONCE))
        _lengthen_backlog(listener)
    return servers


def can_listen(address: Address) -> bool:
    """Return whether an address can be listened on now. May wait for name servers."""
    try:
        bound = _bound_sockets(address)
    except (OSError, ValueError):
        return False
    for listener in bound:
        listener.close()
    return True


def _lengthen_backlog(listener: socket.socket) -> None:
    if os.name != "nt":
        with socket.socket(fileno=os.dup(listener.fileno())) as same:
            same.listen(_BACKLOG)


def _bound_sockets(address: Address, *, reuse_port: bool = False) -> list[socket.socket]:
    """Return a bound socket for each IP address of the host; raises OSError, with all closed, when one fails."""
    infos = socket.getaddrinfo(address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    unavailable: OSError | None = None
    with contextlib.ExitStack() as undo:
        found: list[socket.socket] = []
        for family, _, _, _, where in dict.fromkeys(infos):
            try:
                found.append(undo.enter_context(_bound_socket(family, where, reuse_port=reuse_port)))
            except OSError as error:
                if error.errno not in _NO_SUCH_FAMILY:
                    raise
                unavailable = error
        if not found and unavailable is not None:
            raise unavailable
        undo.pop_all()
        return found


def _bound_socket(
    family: int, where: tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes], *, reuse_port: bool
) -> socket.socket:
    """Return a bound socket with the options that asyncio sets."""
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(where)
        bound.setblocking(False)
    except OSError:
        bound.close()
        raise
    return bound


def refuse(transport: asyncio.BaseTransport, answer: bytes) -> None:
    """Send a response on a new connection and close it.

    Received bytes are read and discarded: the kernel resets a connection that is closed with unread data, and the
    client would lose the response. Over TLS there is none.
    """
    stream = cast("asyncio.Transport", transport)
    if stream.get_extra_info("is_tls"):  # an answer would cost a handshake
        stream.abort()
        return
    bare = stream.get_extra_info("socket")
    if bare is not None:
        same = socket.socket(fileno=bare.fileno())  # asyncio and uvloop do not allow reads from their own object
        with contextlib.suppress(OSError):
            same.recv(_DISCARDED_BYTES)
        same.detach()
    stream.write(answer)
    stream.close()


def service_unavailable(text: str) -> bytes:
    """Return the response for a connection that is refused."""
    head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(text)}\r\n\r\n{text}".encode()


def own_host(host: str) -> str:
    """Return the host under which this machine reaches its own listener on ``host``."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared


def url_address(address: Address, port: int) -> Address:
    """Return a listener's address for a URL that a browser on this machine can open."""
    return Address("localhost" if address.is_every_address else address.host, port)


def reason(error: OSError | ValueError) -> str:
    """Return why listening failed, without the address, which asyncio's text repeats."""
    if isinstance(error, ValueError):
        return str(error)
    if error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)
    return error.strerror or str(error)
