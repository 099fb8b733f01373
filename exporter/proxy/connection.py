"""A client's connection: what aiohttp has, and that requests which cannot be read are handled like all others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.web_protocol import RequestHandler, RequestPayloadError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Connection(RequestHandler):
    """One client's connection."""

    __slots__ = ("_refuse",)

    def __init__(self, server: Server, refuse: Handler, **options: object) -> None:
        super().__init__(server, **options)  # type: ignore[arg-type] # they are checked where the server is made
        self._refuse = refuse

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


class Server(web.Server):
    """Makes such connections; ``refuse`` answers what cannot be read, given an empty request in its place."""

    def __init__(self, handler: Handler, refuse: Handler, **options: object) -> None:
        super().__init__(handler, **options)  # type: ignore[arg-type] # likewise
        self._refuse = refuse

    def __call__(self) -> Connection:
        """Return a new one."""
        return Connection(self, self._refuse, loop=self._loop, **self._kwargs)
