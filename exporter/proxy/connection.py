"""A client's connection: what aiohttp has, and that a body which turns out broken is known to be broken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.web_protocol import RequestHandler, RequestPayloadError

if TYPE_CHECKING:
    from typing import Any


class Connection(RequestHandler):
    """aiohttp queues its answer to a broken chunk behind the request under way, which would wait for ever."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        """Take bytes; if they cannot be what they should be, the request under way learns it."""
        super().data_received(data)
        request = self._current_request
        if request is not None and self._messages and not hasattr(self._messages[-1][0], "method"):
            content = request.content
            if not content.is_eof() and content.exception() is None:
                content.set_exception(RequestPayloadError("the body breaks its framing"))


class Server(web.Server):
    """Makes such connections."""

    def __init__(self, handler: Any, **options: Any) -> None:
        super().__init__(handler, **options)
        self._options = options

    def __call__(self) -> Connection:
        """Return a new one."""
        return Connection(self, loop=self._loop, **self._kwargs)
