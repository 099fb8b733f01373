"""One request on its way through: forwarded first, read along after, recorded exactly once."""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import HttpVersion11, hdrs
from yarl import URL

from exporter.observation import NO_REPLY
from exporter.proxy import usage_asking, websocket
from exporter.proxy.account import CLIENT_ERROR, SERVER_ERROR, Account
from exporter.proxy.admission import Refused, admitted
from exporter.proxy.failures import NOT_HTTP, Failure, error_body, failure_of
from exporter.proxy.headers import for_upstream, written
from exporter.proxy.relay import Relay, plain_reply, reset
from exporter.proxy.request_body import RequestBody
from exporter.proxy.upstream import UpstreamCall
from exporter.wire.usage_request import ask

if TYPE_CHECKING:
    from aiohttp import web
    from aiohttp.http import RawResponseMessage

    from exporter.observation import Outcome
    from exporter.proxy.relay import Outgoing
    from exporter.proxy.target import Target
    from exporter.wire.usage_request import UsageFrameFilter

log = logging.getLogger(__name__)

_REFUSED = frozenset({400, 422})
_SUCCESS, _REDIRECT = 200, 300


class Exchange:
    """One request of one client to one target."""

    def __init__(self, target: Target, request: web.BaseRequest) -> None:
        self._target = target
        self._request = request
        self._account = Account(target, request)
        self._path = ""

    async def run(self) -> Outgoing | web.StreamResponse:
        """Forward the request and the reply."""
        account = self._account
        try:
            return await self._forward()
        except Failure as failure:
            # where a request ends that is refused, the client may see differently
            return await self._fail(failure, last=isinstance(failure.__cause__, Refused))
        except ConnectionError:  # the client's
            raise
        except Exception:
            log.exception("a request could not be handled", extra={"fields": {"server": self._target.name}})
            if account.code == NO_REPLY:
                return await self._fail(Failure("server_error", 500, "the proxy failed"))
            account.outcome = "server_error"
            self._cut_off()
            raise
        finally:
            account.record()

    async def refuse(self) -> Outgoing:
        """Answer a request that could not be read."""
        try:
            return await self._fail(Failure("client_error", CLIENT_ERROR, "the request is not HTTP as it should be"))
        finally:
            self._account.record()

    async def _forward(self) -> Outgoing | web.StreamResponse:
        request, account = self._request, self._account
        try:
            self._path = admitted(request)
        except Refused as refusal:
            raise Failure("client_error", refusal.code, str(refusal)) from refusal
        if request.version >= HttpVersion11 and request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        if websocket.is_websocket(request):
            return await self._relay_websocket()
        body = RequestBody(request, self._target.settings.inspect_bytes, account.look)
        whole = body.arrived()
        if whole is None:
            account.waits()
        if account.format is not None and usage_asking.may_ask(self._target, account.format.NAME, request):
            return await self._forward_asking(body, whole)
        call = await self._send(body, whole)
        try:
            return await self._relay(call)
        finally:
            call.end()

    async def _forward_asking(self, body: RequestBody, whole: bytes | None) -> Outgoing:
        """Forward a request that is changed to ask for usage, if it is for a stream and does not ask already."""
        if whole is None:
            try:
                whole = await body.read()
            except Exception as error:
                self._explain(error, body)
                raise
        asked = ask(whole)
        call = await self._send(body, whole, asked)
        try:
            if asked is not None and call.reply.code in _REFUSED:
                asked = None
                call.end()
                call = await self._send(body, whole, again=True)
                # only a success now says that the server refused it for the usage
                self._target.usage_refused |= _SUCCESS <= call.reply.code < _REDIRECT
            return await self._relay(call, self._frame_filter(call.reply) if asked is not None else None)
        finally:
            call.end()

    async def _send(
        self, body: RequestBody, whole: bytes | None, asked: bytes | None = None, *, again: bool = False
    ) -> UpstreamCall:
        """Send the request and wait for the reply's head."""
        account = self._account
        head = self._head(whole, asked)
        if not again:  # the server's first answer took its time too
            account.passed_on()
        call: UpstreamCall | None = None
        try:
            call = await self._connected(whole)
            if whole is None:
                call.send_pieces(head, body.pieces(), chunked=hdrs.TRANSFER_ENCODING in self._request.headers)
            else:
                call.send(head + (asked or whole))
                account.look(whole)
            await call.answered()
        except BaseException as error:
            if call is not None:
                call.end()
            elif whole is not None:
                account.look(whole)
            self._explain(error, body)
            raise
        return call

    async def _connected(self, whole: bytes | None) -> UpstreamCall:
        """Return a call whose connection is open."""
        upstream = self._target.upstream
        connection = upstream.kept()
        if connection is None:
            if whole is not None:  # it is read while the connection is being made
                asyncio.get_running_loop().call_soon(self._account.look, whole)
            connection = await upstream.open()
        return UpstreamCall(upstream, connection, bodiless=self._request.method == hdrs.METH_HEAD)

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

    def _explain(self, error: BaseException, body: RequestBody | None = None) -> None:
        """Raise Failure for an error before a reply's head that says what became of the request."""
        if not isinstance(error, Exception):  # cancelled
            return
        if body is not None and body.client_failed:
            transport = self._request.transport
            gone = transport is None or transport.is_closing()
            outcome: Outcome = "client_disconnect" if gone else "client_error"
            raise Failure(outcome, CLIENT_ERROR, "the request's body is broken") from error
        failure = failure_of(error)
        if failure is not None:
            raise failure from error

    async def _relay_websocket(self) -> web.StreamResponse:
        """Relay a WebSocket for as long as it lives; an upstream that refuses it is quoted."""
        account = self._account
        account.stream = True
        account.enter("streaming")
        url = URL(self._target.settings.upstream.text + self._path, encoded=True)
        try:
            upstream = await websocket.open_upstream(self._target.session, url, self._request)
        except aiohttp.WSServerHandshakeError as refusal:
            refused = refusal.status >= CLIENT_ERROR
            outcome: Outcome = "client_error" if refused and refusal.status < SERVER_ERROR else "server_error"
            code = refusal.status if refused else 502
            raise Failure(outcome, code, "the model server refused the WebSocket") from refusal
        except Exception as error:
            self._explain(error)
            raise
        account.code = "101"
        account.outcome = "ok"  # whichever side ends it, and however
        return await websocket.relay(self._request, upstream)

    async def _relay(self, call: UpstreamCall, usage_filter: UsageFrameFilter | None = None) -> Outgoing:
        """Pass the reply on, piece by piece as it comes."""
        arrived = perf_counter()
        account, reply = self._account, call.reply
        if reply.code < _SUCCESS:  # 101: nobody asked for another protocol
            raise Failure("server_error", 502, NOT_HTTP)
        try:
            relay = Relay(self._request, reply, same_length=usage_filter is None)
        except ValueError as error:
            raise Failure("server_error", 502, NOT_HTTP) from error
        account.replied(reply)
        try:
            if not call.content.is_eof() and not call.content.total_bytes:
                await relay.start()
            account.code = str(reply.code)
            account.spent(perf_counter() - arrived)
            await self._pieces(call, relay, usage_filter)
        except ConnectionError:  # the client's: those of the upstream are caught where they are read
            return relay
        return relay

    async def _pieces(self, call: UpstreamCall, relay: Relay, usage_filter: UsageFrameFilter | None) -> None:
        account, content = self._account, call.content
        idle = self._target.settings.idle_timeout
        if idle is not None:
            call.without_clock()
        over = False
        while not over:
            try:
                if content.is_eof() and content.exception() is None:
                    piece = content.read_nowait(-1)
                else:
                    piece = await (content.readany() if idle is None else asyncio.wait_for(content.readany(), idle))
            except (aiohttp.ClientError, OSError) as error:
                account.outcome = "timeout" if isinstance(error, TimeoutError) else "stream_error"
                self._cut_off()
                return
            at = perf_counter()
            over = content.at_eof()
            out = piece if usage_filter is None else usage_filter.feed(piece)
            if over:
                await relay.end(out if usage_filter is None else out + usage_filter.flush())
                account.end()
            elif out:
                await relay.write(out)
            account.spent(perf_counter() - at)
            account.saw(piece, at)
        account.judge()

    def _cut_off(self) -> None:
        """End the client's connection so that a reply that broke off is not taken for a whole one.

        Where the end of the connection would be the end of the reply (HTTP/1.0), only a reset says that it is broken.
        """
        transport = self._request.transport
        if transport is None:
            return
        if self._request.version < HttpVersion11:
            reset(transport)
        else:
            transport.close()

    async def _fail(self, failure: Failure, *, last: bool = False) -> Outgoing:
        """Tell the client what happened, in its dialect; ``last`` ends its connection."""
        account = self._account
        account.outcome = failure.outcome
        body, content_type = error_body(account.wire_name, failure)
        reply = plain_reply(self._request, failure.code, body, content_type, last=last)
        if failure.outcome != "client_disconnect":
            try:
                await reply.end(body)
                account.code = str(failure.code)
            except ConnectionError:
                account.outcome = "client_disconnect"
        account.end()
        return reply
