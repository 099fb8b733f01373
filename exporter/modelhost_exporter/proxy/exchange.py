"""The exchange of one request and its response between a client and an upstream.

States, and what moves on from each::

    begin ──► authenticating              only where that takes longer, as a password does
      │         │
      ├◄────────┘
      ├───────► waiting for the body      only where token usage is to be requested: the body is changed as a whole
      │         │ body complete
      ▼         ▼
    connecting ── a kept connection, else a new one; to another upstream where one cannot be reached
      │ request written (its body follows as it is received)
      ▼
    waiting for the response ──► connecting     once more, where the upstream refused the change or closed a
      │ head received                           kept connection
      ▼
    forwarding ── each part of the body is written, then parsed
      │ response complete                       101 ──► relaying a WebSocket
      ▼
    parsing ── what was written faster than it could be parsed
      ▼
    finished: recorded exactly once

An error before the response's head is answered in the dialect's format; one after it cuts the response off.
"""

from __future__ import annotations

import asyncio
import logging
import re
from http import HTTPStatus
from time import perf_counter
from typing import TYPE_CHECKING

from modelhost_exporter.connect_errors import CLOSED, SPEAKS_TLS, cause_of
from modelhost_exporter.dialects.usage_request import ask
from modelhost_exporter.process.error_frames import without_frames
from modelhost_exporter.proxy import errors, headers, include_usage
from modelhost_exporter.proxy.authentication import Unauthorized
from modelhost_exporter.proxy.balancing import PREFIX_BYTES
from modelhost_exporter.proxy.errors import Failure, Refused
from modelhost_exporter.proxy.headers import Field, HeadTemplate
from modelhost_exporter.proxy.observer import Observer
from modelhost_exporter.proxy.replicas import Attempts
from modelhost_exporter.proxy.request_validation import validated_path
from modelhost_exporter.proxy.websocket import WebSocketRelay
from modelhost_exporter.security.authentication import ClientIdentity, Refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from modelhost_exporter.dialects.usage_request import UsageFrameFilter
    from modelhost_exporter.proxy.downstream import DownstreamConnection, Request
    from modelhost_exporter.proxy.server import ServerContext
    from modelhost_exporter.proxy.upstream import ResponseHead, Upstream, UpstreamConnection, UpstreamFailure

log = logging.getLogger(__name__)

_MAX_WAITING_BYTES = 1 << 16
"""What is read of a body while there is no connection yet."""
_RETRY_SECONDS = 0.05
_BYTES_PER_TOKEN = 4
_IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})
_REFUSALS_OF_USAGE = frozenset({400, 422})
_SUCCESS, _REDIRECT, _SWITCHING = 200, 300, 101
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CHUNKED = Field(b"transfer-encoding", b"Transfer-Encoding", b"chunked")
_UPGRADE = (Field(b"connection", b"Connection", b"Upgrade"), Field(b"upgrade", b"Upgrade", b"websocket"))
_CLOSE, _KEEP_ALIVE, _CHUNKED_LINE = b"Connection: close", b"Connection: keep-alive", b"Transfer-Encoding: chunked"
_LAST_CHUNK = b"0\r\n\r\n"


class Exchange:
    """One request of one client to one server."""

    # the request
    _upstream: UpstreamConnection | None = None
    _authenticating: asyncio.Task[None] | None = None
    _connecting: asyncio.Task[None] | None = None
    _finished = False
    _unsent_bytes = 0
    _copy_bytes = 0
    _waits_for_body = False
    _changed_body: bytes | None = None
    _resent = False
    _without_usage = False
    _shows_usage = False
    _sent_head = False
    _sends_chunks = False
    _sent_at = 0.0
    # the response
    _has_head = False
    _writes_chunks = False
    _writes_body = True
    _keep_alive = False
    _filter: UsageFrameFilter | None = None
    _is_streamed = False
    _relay: WebSocketRelay | None = None
    # flow
    _is_parsing = False
    _is_last_part = False
    _active_at = 0.0
    _last_unsent = 0
    _timer: asyncio.TimerHandle | None = None

    def __init__(self, server: ServerContext, client: DownstreamConnection, request: Request) -> None:
        self._server = server
        self._client = client
        self._request = request
        self._observer = Observer(server, request.method, request.target, server.client_of(request))
        self._attempts = Attempts(server.replicas)
        self._unsent: list[bytes] = []
        self._copy: list[bytes] | None = []
        server.uses.enter()

    # the client's side

    def begin(self) -> None:
        """Validate the request and send it on, or wait for its body."""
        try:
            self._begin()
        except Failure as failure:
            self._fail(failure)
        except Exception as error:  # noqa: BLE001 - reported to the client and the log
            self._fail_internally(error)

    def _begin(self) -> None:
        self._validate(self._request)
        authentication = self._server.authentication
        if authentication is None:
            self._go_on()
            return
        decision = authentication.check(self._client, self._request)
        if isinstance(decision, ClientIdentity | Refusal):
            self._on_decision(decision)
        else:
            self._authenticating = asyncio.get_running_loop().create_task(self._authenticate(decision))

    async def _authenticate(self, deciding: Awaitable[ClientIdentity | Refusal]) -> None:
        try:
            decision = await deciding
            self._authenticating = None
            if not self._finished:
                self._client.resume_reading()
                self._on_decision(decision)
        except Failure as failure:
            self._fail(failure)
        except Exception as error:  # noqa: BLE001 - reported to the client and the log
            self._fail_internally(error)

    def _on_decision(self, decision: ClientIdentity | Refusal) -> None:
        """Go on with the request of an authenticated client; raises Unauthorized for others."""
        if isinstance(decision, Refusal):
            raise Unauthorized(decision)
        self._go_on()

    def _go_on(self) -> None:
        """Send a request that is accepted on, or wait for its body."""
        request, server = self._request, self._server
        if not request.complete and request.expects_continue:
            self._client.write(_CONTINUE)
        if request.is_websocket:
            self._observer.stream = True
            self._observer.enter("streaming")
        elif include_usage.is_eligible(server, self._observer.dialect_name, request):
            self._waits_for_body = True
        if not request.complete:
            self._observer.on_wait()
            if not self._waits_for_body and not server.replicas.balancer.hashes_body:
                self._connect()
        pieces = request.pieces
        if pieces:
            request.pieces = []
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self._receive_body(data, complete=request.complete)
        elif request.complete:
            self._connect()

    def _validate(self, request: Request) -> None:
        """Raise Refused for a request that is not forwarded."""
        if request.refusal is not None:
            raise request.refusal
        if self._server.security.tls is not None and not self._client.is_encrypted:  # it had connected before a reload
            raise Refused(HTTPStatus.BAD_REQUEST, "this port serves HTTPS: use https:// instead of http://")
        if not request.path:  # else the same head was validated before
            request.path = validated_path(request)
        if self._server.checks_host:
            self._server.check_host(request)

    def on_request_body(self, data: bytes, *, complete: bool) -> None:
        """Forward the next part of the body, or keep it until there is a connection."""
        if self._finished:
            return
        if self._authenticating is not None:
            self._hold_body(data)
            return
        try:
            self._receive_body(data, complete=complete)
        except Exception as error:  # noqa: BLE001 - reported to the client and the log
            self._fail_internally(error)

    def _hold_body(self, data: bytes) -> None:
        """Keep a part of the body until the client is authenticated, and read no more than little of it."""
        pieces = self._request.pieces
        pieces.append(data)
        if sum(map(len, pieces)) > _MAX_WAITING_BYTES:
            self._client.pause_reading()

    def _receive_body(self, data: bytes, *, complete: bool) -> None:
        if self._copy is not None and data:
            self._copy_bytes += len(data)
            if self._copy_bytes <= self._server.settings.max_inspected_body_bytes:
                self._copy.append(data)
            else:
                self._copy = None
        if self._sent_head:
            self._send_body(data, complete=complete)
            if complete:
                self._observe_body()
            return
        if data:
            self._unsent.append(data)
            self._unsent_bytes += len(data)
        if self._connecting is None and (complete or self._has_prefix):
            self._connect()
        if not complete and not self._waits_for_body and self._unsent_bytes > _MAX_WAITING_BYTES:
            self._client.pause_reading()

    @property
    def _has_prefix(self) -> bool:
        """Whether what decides about the upstream was received of a body that is sent on as it is received."""
        return not self._waits_for_body and self._unsent_bytes >= PREFIX_BYTES

    def on_request_broken(self, refusal: Refused) -> None:
        """Refuse a request whose body is malformed; what was forwarded of it is not ended."""
        if self._finished:
            return
        if self._has_head:
            self._observer.outcome = refusal.outcome
            self._cut()
        else:
            self._fail(refusal)

    def on_client_lost(self) -> None:
        """Cancel the request of a client that has left."""
        if self._finished:
            return
        self._drop_upstream()
        if self._relay is not None:
            self._relay.close()
        self._observer.on_end()
        self._finish_parsing()

    def on_client_writable(self, *, writable: bool) -> None:
        """Read from the upstream as fast as the client reads."""
        if self._upstream is None:
            return
        self._active_at = perf_counter()
        if self._relay is not None:
            self._relay.on_client_writable(writable=writable)
        elif not writable:
            self._upstream.pause_reading()
        elif not self._is_parsing:
            self._upstream.resume_reading()

    # the request

    def _connect(self) -> None:
        """Send the request on a kept connection, or on a new one."""
        upstream = self._attempts.upstream or self._begin_attempt()
        connection = upstream.take() if not self._resent else None
        if connection is not None:
            self._send(connection)
            return
        self._connecting = asyncio.get_running_loop().create_task(self._open(upstream))
        if self._request.complete:
            self._observe_body()  # while the connection is being made

    def _begin_attempt(self) -> Upstream:
        """Choose one of several upstreams, by what is known of the request."""
        request, balancer = self._request, self._server.replicas.balancer
        sticky = None
        if balancer.header is not None:
            sticky = request.by_key.get(balancer.header)
        elif balancer.hashes_body and self._unsent:
            sticky = b"".join(self._unsent)[:PREFIX_BYTES]
        size = 0
        if self._observer.dialect is not None:
            size = request.length or self._unsent_bytes
        return self._attempts.begin(sticky, size // _BYTES_PER_TOKEN)

    async def _open(self, upstream: Upstream) -> None:
        try:
            connection = await upstream.connect()
        except Exception as error:  # noqa: BLE001 - reported to the client
            self._connecting = None
            if not self._finished:
                self._on_connect_error(error, upstream)
            return
        self._connecting = None
        if self._finished:
            connection.abort()
            return
        try:
            self._send(connection)
        except Exception as error:  # noqa: BLE001 - likewise
            self._fail_internally(error)

    def _on_connect_error(self, error: Exception, upstream: Upstream) -> None:
        """Try another upstream, to which nothing was sent either; else answer with an error."""
        without_frames(error)
        failure = errors.connect_failure(error, upstream.where)
        if failure is not None and failure.outcome != "proxy_error":
            upstream.reachability.failed(str(cause_of(error)))
        if failure is None:
            self._fail_internally(error)
        elif failure.outcome == "proxy_error" or not self._attempts.may_fail_over:
            self._fail(failure)
        else:
            self._attempts.end(failure.outcome, has_response=False)
            try:
                self._begin_attempt()
                self._connect()
            except Exception as problem:  # noqa: BLE001 - likewise
                self._fail_internally(problem)

    def _send(self, connection: UpstreamConnection) -> None:
        """Write the request, as far as it was received."""
        request = self._request
        self._upstream = connection
        connection.start(self, is_head_request=request.method == b"HEAD")
        unsent, self._unsent, self._unsent_bytes = self._unsent, [], 0
        body = unsent[0] if len(unsent) == 1 else b"".join(unsent)
        self._active_at = self._sent_at = now = perf_counter()
        if not self._resent:
            self._observer.on_request_forwarded(now)
        self._sent_head = True
        if self._waits_for_body and request.complete:
            self._request_usage(body)
        head = self._request_head(connection.upstream, len(body))
        if self._changed_body is not None:
            connection.write(head + self._changed_body)
        elif request.complete or not body:
            connection.write(head + body)
        else:
            connection.write(head)
            self._send_body(body, complete=False)
        if self._client.is_paused and connection.is_writable:
            self._client.resume_reading()
        if request.complete:
            self._observe_body()
        if self._server.settings.idle_timeout is not None and self._timer is None:
            self._check_idle()

    def _request_usage(self, body: bytes) -> None:
        """Change a body so that it requests token usage; in a trial only note that the response will show the need."""
        changed = ask(body)
        if changed is not None:
            if self._server.usage.state == "requested":
                self._changed_body = changed
            else:
                self._shows_usage = True

    def _request_head(self, upstream: Upstream, size: int) -> bytes:
        """Return the request's head as the upstream receives it; ``size`` of a body that is complete."""
        request = self._request
        is_repeatable = request.template is not None and self._changed_body is None
        if is_repeatable and request.forwarded is not None and request.forwarded[0] is upstream:
            return request.forwarded[1].fill(request.by_key[b"content-length"])
        fields = headers.to_upstream(request.fields, request.by_key, self._server.not_forwarded)
        fields += self._server.upstream_fields
        self._sends_chunks = False
        if self._changed_body is not None:
            fields = include_usage.changed_fields(fields, self._changed_body)
        elif request.is_chunked:
            self._sends_chunks = not request.complete
            length = Field(b"content-length", b"Content-Length", b"%d" % size)
            fields.append(_CHUNKED if self._sends_chunks else length)
        elif request.is_websocket:
            fields += _UPGRADE
        line = b"%b %b%b HTTP/1.1" % (request.method, upstream.prefix, request.path)
        head = headers.serialize(line, (Field(b"host", b"Host", upstream.host), *fields))
        template = HeadTemplate.of(head, request.by_key, len(request.fields)) if is_repeatable else None
        request.forwarded = None if template is None else (upstream, template)
        return head

    def _send_body(self, data: bytes, *, complete: bool) -> None:
        """Write a part of the body that is received while the request is being sent."""
        upstream = self._upstream
        if upstream is None:
            return
        if self._sends_chunks:
            data = _chunked(data, complete=complete)
        if data:
            upstream.write(data)
        if complete:
            self._active_at = self._sent_at = perf_counter()

    def _observe_body(self) -> None:
        copy = self._copy
        if copy is not None:
            self._observer.on_request_body(copy[0] if len(copy) == 1 else b"".join(copy))
        else:
            self._observer.on_request_body(None)

    def on_upstream_writable(self, *, writable: bool) -> None:
        """Read from the client as fast as the upstream reads."""
        self._active_at = perf_counter()
        if self._relay is not None:
            self._relay.on_upstream_writable(writable=writable)
        elif writable:
            self._client.resume_reading()
        elif not self._request.complete:
            self._client.pause_reading()

    # the response

    def on_interim_response(self, head: ResponseHead) -> None:
        """Forward an interim response such as 103, but for 100, which the proxy itself sends."""
        self._active_at = perf_counter()
        if head.status == HTTPStatus.CONTINUE or not self._request.is_http11 or _CONTROL.search(head.reason):
            return
        line = b"HTTP/1.1 %d %b" % (head.status, head.reason)
        self._client.write(headers.serialize(line, headers.to_client(head.fields, head.by_key)))

    def on_response(self, head: ResponseHead | None, data: bytes, *, complete: bool) -> None:
        """Forward what was received of the response, then parse it."""
        self._active_at = at = perf_counter()
        try:
            prefix = b""
            if head is not None:
                if self._is_handled_otherwise(head):
                    return
                prefix = self._start_response(head)
            elif self._relay is not None:
                self._end_relay()
                return
            kept = data if self._filter is None else _filtered(self._filter, data, complete=complete)
            output = prefix + self._framed(kept, complete=complete)
            if output:
                self._client.write(output)
            observer = self._observer
            observer.on_delay(perf_counter() - at)
            if complete:  # the connections are released before the rest is parsed
                self._complete_response()
            is_behind = observer.on_response_data(data, at) if data else False
            if complete:
                self._finish_parsing()
            elif is_behind:
                self._parse_later()
        except Failure as failure:
            self._fail(failure)
        except Exception as error:  # noqa: BLE001 - reported to the client and the log
            self._fail_internally(error)

    def on_chunk(self, data: bytes, content: bytes) -> None:
        """Forward a chunk of a response as it was received, where that is possible, then parse its content."""
        if self._filter is not None or not self._writes_chunks:
            self.on_response(None, content, complete=False)
            return
        self._active_at = at = perf_counter()
        try:
            self._client.write(data)
            if self._observer.on_chunk(content, at):
                self._parse_later()
        except Exception as error:  # noqa: BLE001 - reported to the client and the log
            self._fail_internally(error)

    def _is_handled_otherwise(self, head: ResponseHead) -> bool:
        """Begin to relay a WebSocket, or send the request again; return whether the head asked for either."""
        if head.status == _SWITCHING:
            self._switch(head)
            return True
        if self._changed_body is not None and head.status in _REFUSALS_OF_USAGE:
            self._send_unchanged()
            return True
        return False

    def _framed(self, data: bytes, *, complete: bool) -> bytes:
        if self._writes_chunks:
            return _chunked(data, complete=complete)
        return data if self._writes_body else b""

    def _start_response(self, head: ResponseHead) -> bytes:
        """Return the response's head as the client receives it; raises Failure for one that cannot be forwarded."""
        request, forwarded = self._request, head.forwarded
        self._keep_alive = request.keep_alive and not self._server.is_draining
        kind = request.is_http11, self._keep_alive
        if forwarded is None or self._changed_body is not None or self._without_usage:
            written = self._forwarded_head(head)
        elif kind in forwarded:
            written = forwarded[kind].fill(head.by_key[b"content-length"])
        else:
            written = self._forwarded_head(head)
            template = HeadTemplate.of(written, head.by_key, len(head.fields))
            if template is not None:
                forwarded[kind] = template
        if self._shows_usage:
            self._shows_usage = include_usage.is_event_stream(head)
        self._is_streamed = head.is_chunked
        self._has_head = True
        self._observer.on_response_start(head)
        return written if b"date" in head.by_key else headers.with_date(written)

    def _forwarded_head(self, head: ResponseHead) -> bytes:
        """Return the head that is forwarded, without a Date of the proxy's own."""
        if head.is_chunked and [coding.lower() for coding in headers.values(head.fields, b"transfer-encoding")] != [
            b"chunked"
        ]:
            raise errors.not_http(self._where)
        if _CONTROL.search(head.reason):
            raise errors.not_http(self._where)
        if self._changed_body is not None:
            self._filter = include_usage.frame_filter(head)
            if head.status < _REDIRECT and include_usage.is_encoded(head):
                self._server.usage.on_refusal()  # the frame cannot be removed from what it sends
        elif self._without_usage and _SUCCESS <= head.status < _REDIRECT:
            self._server.usage.on_refusal()  # only a success now shows what it refused
        fields = headers.to_client(head.fields, head.by_key)
        has_length = b"content-length" in head.by_key
        if has_length and (self._filter is not None or head.status == HTTPStatus.NO_CONTENT):
            fields = [field for field in fields if field.key != b"content-length"]
            has_length = False
        http11 = self._request.is_http11
        self._writes_body = not head.is_bodiless
        if self._writes_body and not has_length:
            self._writes_chunks = http11
            self._keep_alive = self._keep_alive and http11
        return self._response_head(head.status, head.reason, fields)

    def _response_head(self, status: int, reason: bytes, fields: list[Field]) -> bytes:
        http11 = self._request.is_http11
        lines = [_CHUNKED_LINE] if self._writes_chunks else []
        if self._keep_alive != http11:
            lines.append(_KEEP_ALIVE if self._keep_alive else _CLOSE)
        line = b"HTTP/1.%d %d %b" % (http11, status, reason)
        return headers.serialize(line, fields, *lines)

    def _complete_response(self) -> None:
        """Release both connections after the whole response was written."""
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            if self._request.complete:
                if upstream.is_paused:
                    upstream.resume_reading()
                upstream.release(is_streamed=self._is_streamed)
            else:  # the rest of the request is not wanted
                upstream.abort()
        self._observer.on_response_end()
        self._finished = True
        self._stop_timer()
        self._client.finished(keep_alive=self._keep_alive)

    def _send_unchanged(self) -> None:
        """Send the request once more as the client wrote it: the upstream may not know ``stream_options``."""
        self._drop_upstream()
        self._waits_for_body, self._changed_body, self._without_usage = False, None, True
        self._send_again()

    def _send_again(self) -> None:
        self._resent = True
        self._sent_head = False
        self._unsent = list(self._copy or ())
        self._connect()

    def on_upstream_failure(self, failure: UpstreamFailure) -> None:
        """Send the request again where that is safe; else answer with an error, or cut the response off."""
        upstream, self._upstream = self._upstream, None
        if self._finished:
            return
        if self._relay is not None:
            self._end_relay()
        elif self._has_head:
            self._observer.outcome = "stream_error"
            self._flush_filter()
            self._cut()
        elif failure.is_malformed:
            self._fail(errors.not_http(self._where, SPEAKS_TLS.reason if failure.is_tls else ""))
        elif upstream is not None and self._may_send_again(upstream):
            upstream.upstream.distrust()
            self._server.self_metrics.retried(self._server.name, "closed")
            self._send_again()
        else:
            cause = upstream.upstream.on_closed() if upstream is not None else CLOSED
            self._fail(errors.unreachable(self._where, cause.reason))

    @property
    def _where(self) -> str:
        """The upstream of the current or last attempt, for clients."""
        upstream = self._attempts.upstream
        return upstream.where if upstream is not None else ""

    def _may_send_again(self, upstream: UpstreamConnection) -> bool:
        """Return whether a request on a kept connection that was closed may be sent once more.

        RFC 9110, section 9.2.2, allows that for idempotent methods. Other requests are sent again as well when the
        connection was closed so soon that the upstream closed it for being idle: none of them was lost or done twice in
        practice, while failures were common.
        """
        if not upstream.is_reused or upstream.has_responded or self._resent or self._copy is None:
            return False
        if self._request.method in _IDEMPOTENT:
            return True
        if not self._server.settings.retry_unsafe:
            return False
        return not self._request.complete or perf_counter() - self._sent_at <= _RETRY_SECONDS

    def _flush_filter(self) -> None:
        """Forward what the filter holds back of a response that broke off: its last words may be the reason."""
        if self._filter is not None:
            rest = self._framed(self._filter.flush(), complete=False)
            if rest:
                self._client.write(rest)

    # WebSockets

    def _switch(self, head: ResponseHead) -> None:
        """Relay bytes both ways after the upstream has accepted a WebSocket."""
        upstream = self._upstream
        if (
            upstream is None
            or not (self._request.is_websocket and upstream.is_upgraded)
            or _CONTROL.search(head.reason)
        ):
            raise errors.not_http(self._where)
        self._has_head = True
        self._observer.code = str(head.status)
        line = b"HTTP/1.1 %d %b" % (head.status, head.reason)
        self._client.write(headers.serialize(line, head.fields))
        limit = self._server.settings.max_websocket_message_bytes
        self._relay = WebSocketRelay(self._client, upstream, limit, self._end_relay)
        self._observer.outcome = "ok"  # whichever side ends it, and however
        self._attempts.on_switched()
        waiting = self._client.open_tunnel(self._relay.on_client_data)
        if waiting:
            self._relay.on_client_data(waiting)

    def on_upgraded_data(self, data: bytes) -> None:
        """Forward bytes of a WebSocket's upstream."""
        self._active_at = perf_counter()
        if self._relay is not None:
            self._relay.on_upstream_data(data)

    def _end_relay(self) -> None:
        if self._finished:
            return
        if self._relay is not None:
            self._relay.close()
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.close()
        self._observer.on_end()
        self._client.close()
        self._finish()

    # the end

    def _fail(self, failure: Failure) -> None:
        """Answer with an error in the dialect's format, or cut off a response that has begun."""
        if self._finished:
            return
        if self._has_head:
            self._observer.outcome = failure.outcome
            self._cut()
            return
        if isinstance(failure, Refused) and not self._client.is_open:
            failure.outcome = "client_disconnect"
        self._drop_upstream()
        observer = self._observer
        observer.outcome = failure.outcome
        if self._request.complete and not self._request.refusal:
            self._observe_body()
        if self._client.is_open:
            self._answer(failure)
        else:
            observer.outcome = "client_disconnect"
        observer.on_end()
        self._finish()
        self._client.finished(keep_alive=self._keep_alive)

    def _answer(self, failure: Failure) -> None:
        body, content_type = errors.error_body(self._observer.dialect_name, failure)
        fields = [
            Field(b"content-type", b"Content-Type", content_type),
            Field(b"content-length", b"Content-Length", b"%d" % len(body)),
        ]
        if isinstance(failure, Unauthorized):
            fields += failure.fields
        self._writes_chunks = False
        self._keep_alive = self._request.keep_alive and not isinstance(failure, Refused)
        head = headers.with_date(self._response_head(failure.code, HTTPStatus(failure.code).phrase.encode(), fields))
        self._client.write(head if self._request.method == b"HEAD" else head + body)
        self._observer.code = str(failure.code)

    def _fail_internally(self, error: Exception) -> None:
        """Report a fault of the proxy itself."""
        log.error("a request could not be handled", exc_info=error, extra={"fields": {"server": self._server.name}})
        self._fail(Failure("proxy_error", 500, "internal error of the proxy; see its log"))

    def _cut(self) -> None:
        """End a response that broke off."""
        self._drop_upstream()
        self._client.cut(with_reset=not self._request.is_http11)
        self._observer.on_end()
        self._finish_parsing()

    def cancel(self) -> None:
        """End at once, because the proxy stops."""
        if self._finished:
            return
        self._observer.outcome = "proxy_error"
        self._drop_upstream()
        self._client.abort()

    def _drop_upstream(self) -> None:
        """Close the connection to the upstream, or stop making one, or authenticating the client."""
        if self._authenticating is not None and self._authenticating is not asyncio.current_task():
            self._authenticating.cancel()
        self._authenticating = None
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()

    def _finish(self) -> None:
        """Record the request, and keep nothing of it: an idle connection refers to its last exchange."""
        self._finished = True
        self._stop_timer()
        self._copy, self._unsent, self._changed_body, self._filter = None, [], None, None
        observed = self._observer.finish()
        self._attempts.end(observed.outcome, has_response=self._has_head)
        if self._shows_usage and observed.outcome == "ok" and observed.stream:
            self._server.usage.on_unchanged_stream(has_usage=observed.tokens.source == "usage")
        self._server.uses.leave()

    # parsing that takes longer than forwarding

    def _finish_parsing(self) -> None:
        """Parse what is left, a part in each turn of the event loop, and record the request then."""
        self._finished = True
        self._stop_timer()
        if not self._observer.is_behind:
            self._finish()
            return
        self._is_last_part = True
        if not self._server.begin_late_parsing():
            self._observer.stop_parsing()
        self._parse_later()

    def _parse_later(self) -> None:
        """Parse the rest in later turns of the event loop; read nothing more until all is parsed."""
        if self._is_parsing:
            return
        self._is_parsing = True
        if self._upstream is not None:
            self._upstream.pause_reading()
        self._server.parsing.add(self._parse_next)

    def _parse_next(self) -> bool:
        """Parse the next part and return whether there are more."""
        self._observer.parse_next()
        if self._observer.is_behind:
            return True
        self._is_parsing = False
        if self._is_last_part:
            self._server.end_late_parsing()
            self._finish()
        elif self._upstream is not None and self._client.is_writable:
            self._upstream.resume_reading()
        return False

    # time-outs

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check_idle(self) -> None:
        """Time out when the upstream neither sends nor reads for as long as it may."""
        limit = self._server.settings.idle_timeout
        if limit is None or self._finished:
            self._timer = None
            return
        now = perf_counter()
        if not self._waits_for_upstream():
            self._active_at = now
        silent = now - self._active_at
        if silent >= limit:
            self._timer = None
            self._fail(errors.no_response(self._where))
            return
        self._timer = asyncio.get_running_loop().call_later(limit - silent, self._check_idle)

    def _waits_for_upstream(self) -> bool:
        """Return whether it is the upstream's turn: to send, or to read more of the request."""
        upstream = self._upstream
        if upstream is None or self._is_parsing or not self._client.is_writable or self._relay is not None:
            return False
        unsent = upstream.unsent_bytes
        if unsent and unsent < self._last_unsent:
            self._active_at = perf_counter()
        self._last_unsent = unsent
        return self._request.complete or not upstream.is_writable


def _filtered(filter_: UsageFrameFilter, data: bytes, *, complete: bool) -> bytes:
    kept = filter_.feed(data)
    return kept + filter_.flush() if complete else kept


def _chunked(data: bytes, *, complete: bool) -> bytes:
    """Return data as a chunk (RFC 9112, section 7.1), none where it is empty, and the last chunk if it is complete."""
    chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
    return chunk + _LAST_CHUNK if complete else chunk
