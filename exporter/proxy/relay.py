"""A reply passed on as it came: no header field is added to the server's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import hdrs, web

from exporter.proxy.headers import end_to_end

if TYPE_CHECKING:
    from aiohttp import ClientResponse

_ADDED = (hdrs.SERVER, hdrs.CONTENT_TYPE)


class Relay(web.StreamResponse):
    """The client's side of a reply; aiohttp frames it as this hop needs."""

    def __init__(self, upstream: ClientResponse) -> None:
        headers = end_to_end(upstream.headers)
        super().__init__(status=upstream.status, reason=upstream.reason, headers=headers)
        # a head whose body is here already is sent together with it
        self._send_headers_immediately = not upstream.content.is_eof()
        self._not_sent = [name for name in _ADDED if name not in headers]

    async def _write_headers(self) -> None:
        """Leave out what aiohttp adds and the server did not send; Date stays (RFC 9110, section 6.6.1)."""
        for name in self._not_sent:
            self._headers.popall(name, None)
        await super()._write_headers()
