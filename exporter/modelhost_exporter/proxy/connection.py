"""A client's connection: what aiohttp has, and that requests which cannot be read are handled like all others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.web_protocol import RequestHandler, RequestPayloadError

from modelhost_exporter.process.listening import refuse

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Iterator

    from modelhost_exporter.proxy.connections import DownstreamConnections

    Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_NO_ROOM = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 38\r\n"
    b"Connection: close\r\n\r\nthe proxy is out of file descriptors\r\n"
)


class Connection(RequestHandler):
    """One client's connection."""

    __slots__ = ("_connections", "_refuse", "_server_name")

    def __init__(
        self,
        server: DownstreamServer,
        refuse: Handler,
        name: str,
        connections: DownstreamConnections,
        **options: object,
    ) -> None:
        super().__init__(server, **options)  # type: ignore[arg-type] # they are checked where the server is made
        self._refuse = refuse
        self._server_name = name
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or refuse the connection while file descriptors are short."""
        if self._connections.admit(self._server_name):
            super().connection_made(transport)
        else:
            refuse(transport, _NO_ROOM)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End; also for a connection that was refused."""
        self._connections.closed()
        super().connection_lost(exc)

    @property
    def is_idle(self) -> bool:
        """Return whether no request is under way, and the connection is open."""
        return self._waiter is not None and not (self._waiter.done() or self._messages or self.is_closing)

    @property
    def is_closing(self) -> bool:
        """Return whether the connection is closed or about to be."""
        return self.transport is None or self.transport.is_closing()

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take bytes; if they cannot be what they should be, the request under way learns it.

        aiohttp queues its answer to a broken chunk behind that request, which would wait for ever.
        """
        super().data_received(data)
        request = self._current_request
        if request is not None and self._messages and not hasattr(self._messages[-1][0], "method"):
            content = request.content
            if not content.is_eof() and content.exception() is None:
                content.set_exception(RequestPayloadError("the body breaks its framing"))

    def _make_error_handler(self, _error: object) -> Handler:
        """Return what answers a request that is no HTTP; aiohttp's own would say whose it is, and count nothing."""
        return self._refuse


class DownstreamServer(web.Server):
    """Makes such connections; ``refuse`` answers what cannot be read, given an empty request in its place.

    ``connections`` decides whether a new connection to the server ``name`` may stay.
    """

    def __init__(
        self, handler: Handler, refuse: Handler, name: str, connections: DownstreamConnections, **options: object
    ) -> None:
        super().__init__(handler, **options)  # type: ignore[arg-type] # likewise
        self._refuse = refuse
        self._name = name
        self._admitted = connections

    def __call__(self) -> Connection:
        """Return a new one."""
        return Connection(self, self._refuse, self._name, self._admitted, loop=self._loop, **self._kwargs)

    def rename(self, name: str) -> None:
        """Count connections to come for another server."""
        self._name = name

    def idle(self) -> Iterator[Connection]:
        """Yield the connections without a request, those that are open longest first."""
        for connection in self._connections:
            if isinstance(connection, Connection) and connection.is_idle:
                yield connection
