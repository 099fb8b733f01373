"""The connections to one model server: kept open between requests, one request at a time on each.

aiohttp's client has the parser and the flow control that are needed here, and with it much that a proxy pays for and
does not use (redirects, cookies, decoding): so this takes its connections, and ``UpstreamCall`` asks on them itself.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from aiohappyeyeballs import start_connection

from modelhost_exporter.proxy.upstream_connection import UpstreamConnection
from modelhost_exporter.threads import call

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohappyeyeballs import AddrInfoType

    from modelhost_exporter.config.http_url import ServerUrl

# uvicorn and llama.cpp close an idle connection after 5 s: a request sent into that moment would be lost
_KEEPALIVE_SECONDS = 3.0
_BUFFER_BYTES = 1 << 16
_SECOND_ADDRESS_SECONDS = 0.25  # RFC 8305, section 5

MAX_FIELD_BYTES = 1 << 16
"""The longest first line or field of a request or a reply; the usual 8 kB are too few for some tokens."""


LookUp = Callable[[str, int], "Sequence[AddrInfoType]"]


def _look_up(host: str, port: int) -> Sequence[AddrInfoType]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class ConnectTimeout(TimeoutError):
    """No connection was made in time."""


class Upstream:
    """One model server. Whoever makes one closes it."""

    def __init__(
        self,
        server: ServerUrl,
        connect_timeout: float,
        idle_timeout: float | None,
        keepalive_seconds: float = _KEEPALIVE_SECONDS,
        look_up: LookUp = _look_up,
    ) -> None:
        """Prepare; ``look_up`` may block, it has a thread of its own."""
        url = server.url
        self.host = (url.host_port_subcomponent or "").encode()
        """What its requests have as their Host."""
        self.prefix = server.prefix
        """The path in front of every path."""
        self._address = (url.raw_host or "", url.port or 0)
        self._tls = _tls() if url.scheme == "https" else None
        self._connect_timeout = connect_timeout
        self.idle_timeout = idle_timeout
        """How long it may be silent, or not read what it is sent."""
        self._keepalive_seconds = keepalive_seconds
        self._look_up = look_up
        self._looking_up: asyncio.Future[Sequence[AddrInfoType]] | None = None
        self._kept: deque[tuple[UpstreamConnection, float]] = deque()
        self._sweeping: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Close the connections that are kept."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        while self._kept:
            self._kept.pop()[0].abort()

    def kept(self) -> UpstreamConnection | None:
        """Return a kept connection that is open, as far as can be known; None when there is none.

        A request is never sent twice: one that goes down with a connection that was kept is lost.
        """
        oldest = asyncio.get_running_loop().time() - self._keepalive_seconds
        while self._kept:
            connection, since = self._kept.pop()
            if since > oldest and connection.is_connected() and not connection.should_close:
                connection.idle = False
                return connection
            connection.abort()
        return None

    def keep(self, connection: UpstreamConnection) -> None:
        """Take back a connection whose reply was read to its end; one that cannot be used again is closed."""
        if connection.should_close or not connection.is_connected():
            connection.abort()
            return
        connection.idle = True
        loop = asyncio.get_running_loop()
        self._kept.append((connection, loop.time()))
        if self._sweeping is None:
            self._sweeping = loop.call_later(self._keepalive_seconds, self._sweep)

    def expect_reply(self, connection: UpstreamConnection, *, bodiless: bool) -> None:
        """Prepare a connection for the next reply; ``bodiless`` for that to a HEAD."""
        connection.set_response_params(
            skip_payload=bodiless,
            read_until_eof=True,
            auto_decompress=False,
            read_timeout=self.idle_timeout,
            read_bufsize=_BUFFER_BYTES,
            max_line_size=MAX_FIELD_BYTES,
            max_field_size=MAX_FIELD_BYTES,
        )

    async def open(self) -> UpstreamConnection:
        """Return a new connection; raises OSError, ConnectTimeout."""
        loop = asyncio.get_running_loop()
        host, port = self._address
        try:
            async with asyncio.timeout(self._connect_timeout):
                infos = _numeric(host, port) or await self._addresses()
                sock = await start_connection(infos, happy_eyeballs_delay=_SECOND_ADDRESS_SECONDS, interleave=1)
                _, connection = await loop.create_connection(
                    lambda: UpstreamConnection(loop),
                    sock=sock,
                    ssl=self._tls,
                    server_hostname=host.rstrip(".") if self._tls is not None else None,
                )
        except TimeoutError as error:
            raise ConnectTimeout from error
        except RuntimeError as error:  # what uvloop raises for some of the system's errors
            raise OSError(str(error)) from error
        return connection

    async def _addresses(self) -> Sequence[AddrInfoType]:
        """Look the host up, once for all who wait: of look-ups that hang there would be one for each request."""
        asked = self._looking_up
        if asked is None or asked.done():
            asked = self._looking_up = call(partial(self._look_up, *self._address))
            asked.add_done_callback(asyncio.Future.exception)  # nobody may be waiting for it any more
        return await asyncio.shield(asked)

    def _sweep(self) -> None:
        """Close what was kept for too long; the oldest come first."""
        loop = asyncio.get_running_loop()
        oldest = loop.time() - self._keepalive_seconds
        while self._kept and self._kept[0][1] <= oldest:
            self._kept.popleft()[0].abort()
        self._sweeping = loop.call_at(self._kept[0][1] + self._keepalive_seconds, self._sweep) if self._kept else None


def _numeric(host: str, port: int) -> Sequence[AddrInfoType]:
    """Return an address as such, which needs no thread; nothing for a name."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return ()


def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
