"""Listening on a TCP address, with few connections accepted at a time, and refusing one."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, cast

from aiohttp import web

if TYPE_CHECKING:
    import asyncio

    from exporter.address import Address

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
