"""One request on its way through: forwarded first, read along after, recorded exactly once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aiohttp import HttpVersion11, hdrs
from yarl import URL

from modelhost_exporter.proxy import websocket
from modelhost_exporter.proxy.account import Account
from modelhost_exporter.proxy.admission import Refused, admitted
from modelhost_exporter.proxy.failures import Failure, OutOfDescriptors, error_body
from modelhost_exporter.proxy.relay import plain_reply
from modelhost_exporter.proxy.relaying import cut_off, relay_reply
from modelhost_exporter.proxy.sending import Sending
from modelhost_exporter.requests.observation import NO_REPLY

if TYPE_CHECKING:
    from aiohttp import web

    from modelhost_exporter.proxy.relay import Outgoing
    from modelhost_exporter.proxy.target import Target

log = logging.getLogger(__name__)


class Exchange:
    """One request of one client to one target."""

    def __init__(self, target: Target, request: web.BaseRequest) -> None:
        self._target = target
        self._request = request
        self._account = Account(target, request)

    async def run(self) -> Outgoing | web.StreamResponse:
        """Forward the request and the reply."""
        account = self._account
        try:
            return await self._forward()
        except Failure as failure:
            return await self._fail(failure)
        except ConnectionError:  # the client's
            raise
        except Exception:
            log.exception("a request could not be handled", extra={"fields": {"server": self._target.name}})
            if account.code == NO_REPLY:
                return await self._fail(Failure("proxy_error", 500, "internal error of the proxy; see its log"))
            account.outcome = "proxy_error"
            cut_off(self._request)
            raise
        finally:
            account.end()
            if account.is_behind:
                self._target.late_parsing.start(account)
            else:
                account.record()

    async def refuse(self) -> Outgoing:
        """Answer a request that could not be read."""
        try:
            return await self._fail(Refused(400, "malformed HTTP request"))
        finally:
            self._account.record()

    async def _forward(self) -> Outgoing | web.StreamResponse:
        request, account = self._request, self._account
        path = admitted(request)
        if request.version >= HttpVersion11 and request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        if websocket.is_websocket(request):
            return await self._relay_websocket(path)
        call, usage_filter = await Sending(self._target, request, account, path).answered()
        try:
            return await relay_reply(
                request, call, account, idle_timeout=self._target.settings.idle_timeout, usage_filter=usage_filter
            )
        finally:
            call.end()

    async def _relay_websocket(self, path: str) -> web.StreamResponse:
        """Relay a WebSocket for as long as it lives."""
        account = self._account
        account.stream = True
        account.enter("streaming")
        connections = self._target.connections
        if not connections.can_connect():
            raise OutOfDescriptors
        url = URL(self._target.settings.upstream.text + path, encoded=True)
        connections.opened()
        try:
            upstream = await websocket.open_upstream(self._target.session, url, self._request)
            account.code = "101"
            account.outcome = "ok"  # whichever side ends it, and however
            return await websocket.relay(self._request, upstream)
        finally:
            connections.closed()

    async def _fail(self, failure: Failure) -> Outgoing:
        """Tell the client what happened, in its dialect."""
        account = self._account
        account.outcome = failure.outcome
        body, content_type = error_body(account.dialect, failure)
        # where a request ends that is refused, its client may see differently
        last = isinstance(failure, Refused)
        reply = plain_reply(self._request, failure.code, body, content_type, last=last)
        if failure.outcome != "client_disconnect":
            try:
                reply.end(body)
                account.code = str(failure.code)
            except ConnectionError:
                account.outcome = "client_disconnect"
        account.end()
        return reply
