"""One request on its way through: forwarded first, read along after, recorded exactly once."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import HttpVersion11, hdrs, web
from yarl import URL

from exporter import wire
from exporter.model_names import UNKNOWN
from exporter.observation import NO_REPLY, RequestObservation, ServerSeconds, Tokens
from exporter.proxy import usage_asking, websocket
from exporter.proxy.admission import Refused, admitted
from exporter.proxy.failures import error_body
from exporter.proxy.headers import for_upstream
from exporter.proxy.relay import Relay, reset
from exporter.proxy.request_body import RequestBody
from exporter.proxy.watch import Watch
from exporter.stream_clock import StreamClock
from exporter.wire.usage_request import ask

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from aiohttp import ClientResponse

    from exporter.instruments import Counter, Gauge
    from exporter.observation import Outcome
    from exporter.proxy.target import Target
    from exporter.wire import Call, Usage
    from exporter.wire.usage_request import UsageFrameFilter

log = logging.getLogger(__name__)

Data = bytes | None  # what aiohttp's client takes besides an async iterator

_STREAM_TYPES = ("text/event-stream", "application/x-ndjson")
_NOT_HTTP = "the model server's reply is not HTTP"
_REFUSED = frozenset({400, 422})
_CLIENT_ERROR, _SERVER_ERROR = 400, 500


class _UpstreamFailure(Exception):
    """The upstream gave no reply: what became of the request, the status and words for the client."""

    def __init__(self, outcome: Outcome, code: int, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.code = code


class Exchange:
    """One request of one client to one target."""

    def __init__(self, target: Target, request: web.BaseRequest) -> None:
        self._accepted = perf_counter()
        self._target = target
        self._request = request
        self._path = ""
        # a browser's preflight (OPTIONS) asks no model for anything
        found = wire.find(request.path) if request.method == hdrs.METH_POST else None
        self._format = found[0] if found else None
        self._operation = found[1] if found else "other"
        self._call: Call | None = None
        self._stream = False
        self._outcome: Outcome = "client_disconnect"  # what it was when nothing else is found out
        self._code = NO_REPLY
        self._succeeded = False
        self._clock = StreamClock()
        self._watch: Watch | None = None
        self._phase: Gauge | None = None
        self._chunks: Counter | None = None
        self._slowest_piece = 0.0
        self._ended: float | None = None

    async def run(self) -> web.StreamResponse:
        """Forward the request and the reply."""
        try:
            return await self._forward()
        except _UpstreamFailure as failure:
            return await self._fail(failure)
        except ConnectionError:  # the client's
            raise
        except Exception:
            log.exception("a request could not be handled", extra={"fields": {"server": self._target.name}})
            if self._code == NO_REPLY:
                return await self._fail(_UpstreamFailure("server_error", 500, "the proxy failed"))
            self._outcome = "server_error"
            self._cut_off()
            raise
        finally:
            self._record()

    async def _forward(self) -> web.StreamResponse:
        request = self._request
        try:
            self._path = admitted(request)
        except Refused as refusal:
            raise _UpstreamFailure("client_error", refusal.code, str(refusal)) from refusal
        if request.version >= HttpVersion11 and request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        if websocket.is_websocket(request):
            return await self._relay_websocket()
        body = RequestBody(request, self._target.settings.inspect_bytes, self._look)
        whole = body.arrived()
        asked = None
        if whole is None:
            self._enter("blocking")
        if self._format is not None and usage_asking.may_ask(self._target, self._format.NAME, request):
            if whole is None:
                with self._explained(body):
                    whole = await body.read()
            asked = ask(whole)
        if whole is None:
            upstream = await self._send(body.pieces(), body)
        else:
            # the turn after the next: the client library sends the request in the next one
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._look, whole)
            upstream = await self._send(asked or whole or None, body, changed=asked is not None)
        if asked is not None and upstream.status in _REFUSED:
            upstream.close()
            asked = None
            upstream = await self._send(whole or None, body, again=True)
            # only a success now says that the server refused it for the usage
            self._target.usage_refused |= 200 <= upstream.status < 300  # noqa: PLR2004 - 2xx
        try:
            return await self._relay(upstream, self._frame_filter(upstream) if asked is not None else None)
        finally:
            upstream.release() if upstream.content.at_eof() else upstream.close()

    async def _send(
        self, data: Data | AsyncIterator[bytes], body: RequestBody, *, changed: bool = False, again: bool = False
    ) -> ClientResponse:
        """Send the request and wait for the reply's head."""
        request = self._request
        headers = for_upstream(request.headers)
        if changed:
            usage_asking.prepare(headers)
        if not again:  # the server's first answer took its time too
            self._target.health.overhead(self._target.name, "request", perf_counter() - self._accepted)
        with self._explained(body):
            return await self._target.session.request(
                request.method, self._url(), headers=headers, data=data, allow_redirects=False
            )

    def _frame_filter(self, upstream: ClientResponse) -> UsageFrameFilter | None:
        """Return what takes the usage frame out of a reply to a request that asked for it."""
        if usage_asking.is_encoded(upstream):  # though it was told that nobody would accept that
            self._target.usage_refused = True
        return usage_asking.frame_filter(upstream)

    def _url(self) -> URL:
        """Return what the client library makes the very same target of."""
        upstream = self._target.settings.upstream
        url = URL(upstream.text + self._path, encoded=True)
        if self._path.endswith("?"):  # it would drop the question mark
            url._cache["raw_path_qs"] = upstream.prefix + self._path  # noqa: SLF001 - nothing else keeps it
        return url

    @contextmanager
    def _explained(self, body: RequestBody | None = None) -> Iterator[None]:
        """Turn what goes wrong before a reply's head into what became of the request."""
        try:
            yield
        except Exception as error:
            if body is not None and body.client_failed:
                raise self._spoilt() from error
            failure = _failure(error)
            if failure is None:
                raise
            raise failure from error

    def _spoilt(self) -> _UpstreamFailure:
        """Return what became of a request whose body did not come to its end."""
        transport = self._request.transport
        gone = transport is None or transport.is_closing()
        return _UpstreamFailure(
            "client_disconnect" if gone else "client_error", _CLIENT_ERROR, "the request's body is broken"
        )

    async def _relay_websocket(self) -> web.StreamResponse:
        """Relay a WebSocket for as long as it lives; an upstream that refuses it is quoted."""
        self._stream = True
        self._enter("streaming")
        try:
            with self._explained():
                upstream = await websocket.open_upstream(self._target.session, self._url(), self._request)
        except _UpstreamFailure as failure:
            refusal = failure.__cause__
            if not isinstance(refusal, aiohttp.WSServerHandshakeError):
                raise
            refused = refusal.status >= _CLIENT_ERROR
            outcome: Outcome = "client_error" if refused and refusal.status < _SERVER_ERROR else "server_error"
            raise _UpstreamFailure(
                outcome, refusal.status if refused else 502, "the model server refused the WebSocket"
            ) from refusal
        self._code = "101"
        self._outcome = "ok"  # whichever side ends it, and however
        return await websocket.relay(self._request, upstream)

    async def _relay(self, upstream: ClientResponse, usage_filter: UsageFrameFilter | None) -> web.StreamResponse:
        """Pass the reply on, piece by piece as it comes."""
        arrived = perf_counter()
        content_type = upstream.headers.get(hdrs.CONTENT_TYPE, "")
        try:
            relay = Relay(upstream)
        except ValueError as error:
            raise _UpstreamFailure("server_error", 502, _NOT_HTTP) from error
        if upstream.status < 200:  # noqa: PLR2004 - 101: nobody asked for another protocol
            raise _UpstreamFailure("server_error", 502, _NOT_HTTP)
        self._succeeded = upstream.status < 300  # noqa: PLR2004 - 2xx
        self._stream = self._stream or (self._call is None and _is_stream(content_type))
        if self._format is not None:
            self._watch = Watch(
                self._format.reply(content_type),
                upstream.headers.get(hdrs.CONTENT_ENCODING, ""),
                self._count_parse_error,
            )
        if usage_filter is not None:
            relay.forget_length()
        try:
            await relay.prepare(self._request)
            self._code = str(upstream.status)
            self._slowest_piece = perf_counter() - arrived
            await self._pieces(upstream, relay, usage_filter)
        except ConnectionError:  # the client's: those of the upstream are caught where they are read
            return relay
        return relay

    async def _pieces(self, upstream: ClientResponse, relay: Relay, usage_filter: UsageFrameFilter | None) -> None:
        content, watch = upstream.content, self._watch
        idle = self._target.settings.idle_timeout
        if idle is not None:
            _time_reads_here(upstream)
        over = False
        while not over:
            try:
                piece = await (content.readany() if idle is None else asyncio.wait_for(content.readany(), idle))
            except (aiohttp.ClientError, OSError) as error:
                self._outcome = "timeout" if isinstance(error, TimeoutError) else "stream_error"
                self._cut_off()
                return
            at = perf_counter()
            over = content.at_eof()
            out = piece if usage_filter is None else usage_filter.feed(piece)
            if over:
                await relay.write_eof(out if usage_filter is None else out + usage_filter.flush())
                self._ended = perf_counter()
            elif out:
                await relay.write(out)
            spent = perf_counter() - at
            self._slowest_piece = max(self._slowest_piece, spent)
            if watch is not None:
                progress = watch.feed(piece)
                if progress.chunks:
                    self._saw(at, progress.chunks, answer=progress.answer)
        self._outcome = self._judge(upstream)

    def _judge(self, upstream: ClientResponse) -> Outcome:
        """Say what became of a request whose reply was passed on to its end."""
        if upstream.status >= _SERVER_ERROR:
            return "server_error"
        if upstream.status >= _CLIENT_ERROR:
            return "client_error"
        if self._watch is not None and self._succeeded:
            usage = self._usage()
            if usage.failed or not (usage.complete or self._watch.blind):
                return "stream_error"
        return "ok"

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

    async def _fail(self, failure: _UpstreamFailure) -> web.StreamResponse:
        """Tell the client what happened, in its dialect."""
        self._outcome = failure.outcome
        wire_name = self._format.NAME if self._format is not None else None
        body, content_type = error_body(wire_name, str(failure), failure.outcome, failure.code)
        response = web.Response(status=failure.code, body=body, headers={hdrs.CONTENT_TYPE: content_type})
        if failure.outcome == "client_disconnect":
            return response
        try:
            await response.prepare(self._request)
            self._code = str(failure.code)
            await response.write_eof()
        except ConnectionError:
            self._outcome = "client_disconnect"
        self._ended = perf_counter()
        return response

    def _look(self, body: bytes) -> None:
        """Read the request, which is on its way already."""
        if self._ended is not None or self._format is None:
            if self._phase is None and self._ended is None:
                self._enter("blocking")
            return
        try:
            seen = body and len(body) <= self._target.settings.inspect_bytes
            self._call = self._format.call(body) if seen else None
        except Exception:  # noqa: BLE001 - reading along must not hurt
            self._count_parse_error("internal")
        if self._call is not None:
            self._stream = self._call.stream
        if self._chunks is None:  # else the reply was faster than the request's body
            self._enter("waiting" if self._stream else "blocking")

    def _enter(self, phase: str) -> None:
        """Count the request in a phase and no longer in the one before."""
        if self._phase is not None:
            self._phase.dec()
        model = self._model()
        self._phase = self._target.metrics.in_flight(self._target.name, model, self._operation, phase)
        self._phase.inc()

    def _saw(self, at: float, chunks: int, *, answer: bool) -> None:
        """Note tokens in the reply."""
        self._clock.chunk(at, answer=answer)
        if self._chunks is None:
            self._chunks = self._target.metrics.chunks(self._target.name, self._model(), self._operation)
            self._enter("streaming")
        self._chunks.inc(chunks)

    def _model(self) -> str:
        """Return the label of the model: what the reply names, else what the request named.

        A name that is only the client's takes no place when the client leaves before the first token: else it could
        fill them all with names that the server does not have.
        """
        if self._format is None:
            return UNKNOWN
        named = self._watch.model if self._watch is not None else None
        answered = named is not None or self._clock.first is not None or self._outcome != "client_disconnect"
        if named is None and self._call is not None:
            named = self._call.model
        return self._target.names.label(named, succeeded=self._succeeded and answered)

    def _usage(self) -> Usage:
        return self._watch.finish() if self._watch is not None else wire.Usage()

    def _count_parse_error(self, reason: str) -> None:
        name = self._format.NAME if self._format is not None else "none"
        self._target.health.parse_error(self._target.name, name, reason)

    def _record(self) -> None:
        """Count the request; awaits nothing, runs once."""
        if self._ended is None:
            self._ended = perf_counter()
        if self._phase is not None:
            self._phase.dec()
        target, usage = self._target, self._usage()
        if self._succeeded:
            target.health.overhead(target.name, "response", self._slowest_piece)
        model = self._model()
        observed = self._observed(model, usage)
        target.metrics.record(target.name, observed, target.settings.objectives_of(model))

    def _observed(self, model: str, usage: Usage) -> RequestObservation:
        timed = self._stream and self._outcome == "ok"
        clock, ended = self._clock, self._ended or 0.0
        return RequestObservation(
            model=model,
            operation=self._operation if usage.is_inference else "other",
            stream=self._stream,
            outcome=self._outcome,
            code=self._code,
            duration=ended - self._accepted,
            time_to_first_token=clock.first - self._accepted if timed and clock.first is not None else None,
            time_to_first_answer_token=(
                clock.first_answer - self._accepted if timed and clock.first_answer is not None else None
            ),
            time_per_output_token=(
                clock.time_per_output_token(usage.output_tokens) if timed and usage.choices == 1 else None
            ),
            max_gap=clock.max_gap if timed else None,
            finish_reasons=usage.finish_reasons,
            tokens=Tokens(
                usage.input_tokens,
                usage.input_cache_hit,
                usage.input_cache_write,
                usage.output_tokens,
                usage.output_reasoning,
                usage.source,
            ),
            server_seconds=ServerSeconds(
                usage.prefill_seconds, usage.decode_seconds, usage.queue_seconds, usage.load_seconds
            ),
        )


def _is_stream(content_type: str) -> bool:
    return content_type.lower().startswith(_STREAM_TYPES)


def _time_reads_here(upstream: ClientResponse) -> None:
    """Stop the client library's clock, which also runs while a slow client is written to and nothing is read."""
    if upstream.connection is not None and upstream.connection.protocol is not None:
        upstream.connection.protocol.read_timeout = None
        upstream.connection.protocol.start_timeout()


def _failure(error: Exception) -> _UpstreamFailure | None:
    """Return what an exception of the client library says about the upstream; None for one that says nothing."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return _UpstreamFailure("timeout", 504, "the model server did not accept a connection in time")
    if isinstance(error, TimeoutError):
        return _UpstreamFailure("timeout", 504, "the model server did not answer in time")
    if isinstance(error, (aiohttp.ClientConnectionError, OSError)):
        return _UpstreamFailure("upstream_unreachable", 502, "the model server cannot be reached")
    if isinstance(error, aiohttp.ClientError):
        return _UpstreamFailure("server_error", 502, _NOT_HTTP)
    return None
