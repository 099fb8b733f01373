"""Listening on a TCP address, with few connections accepted at a time; refusing one; and addresses for people."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, cast

from aiohttp import web

from modelhost_exporter.config.address import Address

if TYPE_CHECKING:
    import asyncio

_BACKLOG = 4096
_DISCARDED_BYTES = 1 << 16
_ACCEPTS_AT_ONCE = 4


async def listen(runner: web.BaseRunner, address: Address) -> None:
    """Listen with the runner's server; OSError or ValueError when that is not possible.

    asyncio accepts as many connections at once as the backlog is long, before any of them can be refused or another
    be closed for it. So it is given a short backlog, and the kernel a long one.
    """
    site = web.TCPSite(runner, address.host or None, address.port, backlog=_ACCEPTS_AT_ONCE)
    await site.start()
    if not hasattr(os, "dup") or os.name == "nt":
        return
    for listener in getattr(site._server, "sockets", ()):  # noqa: SLF001 - there is no other way to it
        with socket.socket(fileno=os.dup(listener.fileno())) as same:
            same.listen(_BACKLOG)


def refuse(transport: asyncio.BaseTransport, answer: bytes) -> None:
    """Send an answer on a connection that was just made, and close it.

    What the client has sent already is discarded: closed with that unread, the kernel would reset the connection, and
    the client would lose the answer.
    """
    stream = cast("asyncio.Transport", transport)
    bare = stream.get_extra_info("socket")
    if bare is not None:
        same = socket.socket(fileno=bare.fileno())  # neither asyncio nor uvloop lets its own be read from
        with contextlib.suppress(OSError):
            same.recv(_DISCARDED_BYTES)
        same.detach()
    stream.write(answer)
    stream.close()


def own_host(host: str) -> str:
    """Return the host at which this machine reaches a listener of its own; ``host`` is the listener's."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared


def url_address(address: Address, port: int) -> Address:
    """Return the address of a listener as a browser on this machine can open it."""
    return Address("localhost" if address.is_every_address else address.host, port)


def reason(error: OSError | ValueError) -> str:
    """Return why listening failed, in the system's words: asyncio's own text repeats the address."""
    if isinstance(error, ValueError):
        return str(error)
    if error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)
    return error.strerror or str(error)
