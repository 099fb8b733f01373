"""A request on its way to the server: as the client wrote it, but for the one change that may ask for token usage."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import hdrs

from modelhost_exporter.dialects.usage_request import ask
from modelhost_exporter.process.descriptors import is_shortage
from modelhost_exporter.process.error_frames import without_frames
from modelhost_exporter.proxy import usage_asking
from modelhost_exporter.proxy.failures import CLIENT_ERROR, Failure, OutOfDescriptors, failure_of
from modelhost_exporter.proxy.headers import for_upstream, written
from modelhost_exporter.proxy.request_body import RequestBody
from modelhost_exporter.proxy.upstream_call import UpstreamCall

if TYPE_CHECKING:
    from aiohttp import web
    from aiohttp.http import RawResponseMessage

    from modelhost_exporter.dialects.usage_request import UsageFrameFilter
    from modelhost_exporter.proxy.account import Account
    from modelhost_exporter.proxy.target import Target
    from modelhost_exporter.proxy.upstream_connection import UpstreamConnection
    from modelhost_exporter.requests.observation import Outcome

_REFUSED = frozenset({400, 422})
_SUCCESS, _REDIRECT = 200, 300


class Sending:
    """One request of one client to one target; ``path`` is what it asks for, query and all."""

    def __init__(self, target: Target, request: web.BaseRequest, account: Account, path: str) -> None:
        self._target = target
        self._request = request
        self._account = account
        self._path = path
        self._body = RequestBody(request, target.settings.max_inspected_body_bytes, account.look)

    async def answered(self) -> tuple[UpstreamCall, UsageFrameFilter | None]:
        """Send it and return the reply once its head is here, and what must be taken out of it; raises Failure."""
        account = self._account
        whole = self._body.arrived()
        if whole is None:
            account.waits()
        if account.format is None or not usage_asking.may_ask(self._target, account.format.NAME, self._request):
            return await self._send(whole), None
        if whole is None:
            whole = await self._wait_for_body()
        asked = ask(whole)
        call = await self._send(whole, asked)
        if asked is None:
            return call, None
        if call.reply.code not in _REFUSED:
            return call, self._frame_filter(call.reply)
        call.end()
        call = await self._send(whole, again=True)
        # only a success now says that the server refused it for the usage
        self._target.usage_refused |= _SUCCESS <= call.reply.code < _REDIRECT
        return call, None

    async def _wait_for_body(self) -> bytes:
        try:
            return await self._body.read()
        except Exception as error:
            self._explain(error)
            raise

    async def _send(self, whole: bytes | None, asked: bytes | None = None, *, again: bool = False) -> UpstreamCall:
        """Send the request and wait for the reply's head; the body is ``whole``, or None when it is still coming."""
        account = self._account
        head = self._head(whole, asked)
        if not again:  # the server's first answer took its time too
            account.passed_on()
        call: UpstreamCall | None = None
        try:
            call = await self._connected(whole)
            if whole is None:
                call.send_pieces(head, self._body.pieces(), chunked=hdrs.TRANSFER_ENCODING in self._request.headers)
            else:
                call.send(head + (asked or whole))
                account.look(whole)
            await call.answered()
        except BaseException as error:
            if call is not None:
                call.end()
            elif whole is not None:
                account.look(whole)
            self._explain(error)
            raise
        return call

    async def _connected(self, whole: bytes | None) -> UpstreamCall:
        """Return a call whose connection is open."""
        upstream = self._target.upstream
        connection = upstream.kept()
        if connection is None:
            if whole is not None:  # it is read while the connection is being made
                asyncio.get_running_loop().call_soon(self._account.look, whole)
            connection = await self._opened()
        return UpstreamCall(upstream, connection, bodiless=self._request.method == hdrs.METH_HEAD)

    async def _opened(self) -> UpstreamConnection:
        """Return a new connection; OutOfDescriptors where the proxy itself cannot have one."""
        connections = self._target.connections
        if not connections.can_connect():
            raise OutOfDescriptors
        try:
            connection = await self._target.upstream.open()
        except OSError as error:
            if is_shortage(error):
                connections.note_shortage()
            raise
        if connection.is_connected():
            connections.opened()
            connection.on_lost = connections.closed
        return connection

    def _head(self, whole: bytes | None, asked: bytes | None) -> bytes:
        """Return the request's head as the server gets it."""
        request, upstream = self._request, self._target.upstream
        fields = for_upstream(request.raw_headers, request.headers)
        if asked is not None:
            fields = usage_asking.prepared(fields, asked)
        elif hdrs.TRANSFER_ENCODING in request.headers:
            chunked = (b"Transfer-Encoding", b"chunked")
            fields.append(chunked if whole is None else (b"Content-Length", b"%d" % len(whole)))
        line = f"{request.method} {upstream.prefix}{self._path} HTTP/1.1"
        return written(line.encode(), ((b"Host", upstream.host), *fields))

    def _frame_filter(self, reply: RawResponseMessage) -> UsageFrameFilter | None:
        """Return what takes the usage frame out of a reply to a request that asked for it."""
        if usage_asking.is_encoded(reply):  # though it was told that nobody would accept that
            self._target.usage_refused = True
        return usage_asking.frame_filter(reply)

    def _explain(self, error: BaseException) -> None:
        """Raise Failure for an error before a reply's head that says what became of the request."""
        if not isinstance(error, Exception):  # cancelled
            return
        if self._body.client_failed:
            transport = self._request.transport
            gone = transport is None or transport.is_closing()
            outcome: Outcome = "client_disconnect" if gone else "client_error"
            raise Failure(outcome, CLIENT_ERROR, "malformed request body") from without_frames(error)
        failure = failure_of(error)
        if failure is None:
            return
        try:
            raise failure from without_frames(error)
        finally:
            del failure  # its traceback leads to this frame: a cycle
