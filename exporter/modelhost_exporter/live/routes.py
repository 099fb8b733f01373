"""HTTP routes of the live feed: a WebSocket on the metrics path, server-sent events, and a JSON API."""

from __future__ import annotations

import asyncio
import contextlib
import json
from functools import partial
from typing import TYPE_CHECKING, Protocol

from aiohttp import HttpVersion11, WSCloseCode, WSMsgType, hdrs, web

from modelhost_exporter import threads
from modelhost_exporter.live.broadcaster import Broadcaster
from modelhost_exporter.live.meter import INTERVAL_SECONDS, MeterSource
from modelhost_exporter.live.models import all_models, find_model
from modelhost_exporter.live.process_feed import ProcessFeed
from modelhost_exporter.live.processes import ProcessSampler
from modelhost_exporter.live.recent_requests import RequestQuery
from modelhost_exporter.live.subscribers import Subscriber, chunked_event, event, websocket_frame
from modelhost_exporter.metrics.exposition import accepts_gzip
from modelhost_exporter.web import origin_check
from modelhost_exporter.web.websocket import is_proper

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from aiohttp.typedefs import Handler

    from modelhost_exporter.live.message import LiveMessage
    from modelhost_exporter.live.subscribers import Framing
    from modelhost_exporter.requests.recent import RecentRequests
    from modelhost_exporter.requests.running import RunningRequests

    JsonHandler = Callable[[web.Request], Awaitable[bytes]]
    """Returns the body of a response; raises ``_HttpError``."""
    HandlerWithHeaders = Callable[[web.Request, Mapping[str, str]], Awaitable[web.StreamResponse]]
    """Returns the response, with these headers; raises ``_HttpError``."""

_HEADERS = {
    hdrs.CACHE_CONTROL: "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",  # other sites cannot embed it, e.g. as a script
}
_EVENT_HEADERS = {hdrs.CONTENT_TYPE: "text/event-stream", "X-Accel-Buffering": "no"}  # nginx would buffer events
_CONTENT_TYPES = {"json": "application/json", "csv": "text/csv"}
_DOWNLOAD = 'attachment; filename="requests.csv"'
_MAX_CLIENT_MESSAGE_BYTES = 4096
_MAX_CLIENT_MESSAGES = 100
_CLIENT_MESSAGES_SECONDS = 60.0
_CLOSE_SECONDS = 1.0


class LiveSource(MeterSource, Protocol):
    """The parts of the running exporter that the live feed and the API read."""

    recent_requests: RecentRequests
    running_requests: RunningRequests


class _HttpError(Exception):
    """An error response: its status and the text of its JSON body."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def add_routes(app: web.Application, source: LiveSource, interval_seconds: float = INTERVAL_SECONDS) -> Handler:
    """Add the routes below /api, and return the handler of WebSocket requests to the metrics path."""
    routes = _LiveRoutes(Broadcaster(source, interval_seconds), source)
    app.add_routes(
        [
            web.get("/api/live", routes.with_headers(routes.events), allow_head=False),
            web.get("/api/models", routes.json(routes.models)),
            web.get("/api/models/metrics", routes.json(routes.model)),
            web.get("/api/history", routes.with_headers(routes.history)),
            web.get("/api/requests", routes.with_headers(routes.requests)),
            web.get("/api/processes", routes.json(routes.processes)),
            web.route("*", "/api/{rest:.*}", routes.json(routes.not_found)),
        ]
    )
    app.on_startup.append(routes.start)
    app.on_shutdown.append(routes.stop)
    return routes.with_headers(routes.websocket)


class _LiveRoutes:
    """The handlers, and the number of open connections."""

    def __init__(self, feed: Broadcaster, source: LiveSource) -> None:
        self._feed = feed
        self._source = source
        self._processes = ProcessFeed(ProcessSampler(source.host.processes))
        self._connected = 0

    async def start(self, _app: web.Application) -> None:
        """Start the feed."""
        self._feed.start()

    async def stop(self, _app: web.Application) -> None:
        """Stop the feed, and close its connections."""
        self._processes.close()
        await self._feed.stop()

    def with_headers(self, respond: HandlerWithHeaders) -> Handler:
        """Return a handler that adds the headers of the live feed and turns an ``_HttpError`` into a JSON response."""

        async def handle(request: web.Request) -> web.StreamResponse:
            headers = {**_HEADERS, **origin_check.reader_headers(request)}
            try:
                return await respond(request, headers)
            except _HttpError as error:
                return web.json_response({"error": str(error)}, status=error.status, headers=headers)

        return handle

    def json(self, body: JsonHandler) -> Handler:
        """Return a handler whose response is JSON."""

        async def respond(request: web.Request, headers: Mapping[str, str]) -> web.StreamResponse:
            return web.Response(body=await body(request), content_type="application/json", headers=headers)

        return self.with_headers(respond)

    async def models(self, _request: web.Request) -> bytes:
        """Return all models."""
        return json.dumps({"models": (await self._message())["models"]}).encode()

    async def model(self, request: web.Request) -> bytes:
        """Return the model of the query parameter ``model``; without it, the sum of all models."""
        wanted = request.query.get("model")
        if not wanted:
            return json.dumps(all_models(await self._message())).encode()
        found = find_model((await self._message())["models"], wanted)
        if found is None:
            raise _HttpError(404, f"no model {wanted!r}, or several servers have one of that name (see /api/models)")
        return json.dumps(found).encode()

    async def history(self, request: web.Request, headers: Mapping[str, str]) -> web.StreamResponse:
        """Return the history, with gzip where the client accepts it."""
        zipped = accepts_gzip(",".join(request.headers.getall(hdrs.ACCEPT_ENCODING, [])))
        try:
            body = await self._feed.history(zipped=zipped)
        except RuntimeError as error:  # no free thread
            raise _HttpError(503, str(error)) from error
        response = web.Response(body=body, content_type="application/json", headers=headers)
        if zipped:
            response.headers[hdrs.CONTENT_ENCODING] = "gzip"
        return response

    async def processes(self, _request: web.Request) -> bytes:
        """Return the processes that use most CPU time and memory, measured now."""
        if not self._source.config.live.processes:
            raise _HttpError(404, "processes are off (live.processes)")
        try:
            return await self._processes.encoded()
        except Exception as error:  # of the system: no free thread, a process that hangs, no permission
            raise _HttpError(503, f"the processes cannot be read: {error}") from error

    async def requests(self, request: web.Request, headers: Mapping[str, str]) -> web.StreamResponse:
        """Return the requests in progress and the last finished ones, those that the query wants."""
        source = self._source
        if not source.config.requests.recent:
            raise _HttpError(404, "recent requests are off (requests.recent)")
        try:
            query = RequestQuery.of(request.query)
        except ValueError as error:
            raise _HttpError(400, str(error)) from error
        try:
            body = await threads.call(partial(query.encoded, source.running_requests, source.recent_requests))
        except RuntimeError as error:  # no free thread
            raise _HttpError(503, str(error)) from error
        response = web.Response(body=body, content_type=_CONTENT_TYPES[query.format], charset="utf-8", headers=headers)
        if query.format == "csv":
            response.headers[hdrs.CONTENT_DISPOSITION] = _DOWNLOAD
        return response

    async def not_found(self, request: web.Request) -> bytes:
        """Return 404."""
        raise _HttpError(404, f"Not Found: {request.method} {request.path}")

    async def events(self, request: web.Request, headers: Mapping[str, str]) -> web.StreamResponse:
        """Send server-sent events until the client disconnects."""
        response = web.StreamResponse(headers={**headers, **_EVENT_HEADERS})
        framing: Framing = event
        if request.version >= HttpVersion11:
            response.enable_chunked_encoding()
            framing = chunked_event
        with self._connection(), contextlib.suppress(ConnectionError):
            await response.prepare(request)
            with self._subscriber(request, framing) as subscriber:
                await subscriber.gone.wait()
        return response

    async def websocket(self, request: web.Request, _headers: Mapping[str, str]) -> web.StreamResponse:
        """Send messages over a WebSocket until either side closes it."""
        if not is_proper(request):
            raise _HttpError(400, "invalid WebSocket handshake (version 13 is required)")
        protocol = request.headers.get(hdrs.SEC_WEBSOCKET_PROTOCOL, "").partition(",")[0].strip()
        socket = web.WebSocketResponse(
            protocols=[protocol] if protocol else (),  # any that the client offers
            compress=False,
            autoping=False,
            max_msg_size=_MAX_CLIENT_MESSAGE_BYTES,
            timeout=_CLOSE_SECONDS,
        )
        with self._connection(), contextlib.suppress(ConnectionError):
            await socket.prepare(request)
            with self._subscriber(request, websocket_frame):
                await _read_until_closed(socket)
        return socket

    @contextlib.contextmanager
    def _connection(self) -> Iterator[None]:
        """Count a connection; 503 when there are too many."""
        limit = self._source.config.live.max_viewers
        if self._connected >= limit:
            raise _HttpError(503, f"too many connections to the live feed: the limit is {limit} (live.max_viewers)")
        self._connected += 1
        try:
            yield
        finally:
            self._connected -= 1

    @contextlib.contextmanager
    def _subscriber(self, request: web.Request, framing: Framing) -> Iterator[Subscriber]:
        """Send messages to the client of a request while the block runs."""
        transport: asyncio.Transport | None = request.transport
        if transport is None:
            raise ConnectionResetError("the client disconnected")
        subscriber = Subscriber(transport, framing)
        self._feed.subscribers.add(subscriber)
        self._feed.wake()
        try:
            yield subscriber
        finally:
            self._feed.subscribers.remove(subscriber)

    async def _message(self) -> LiveMessage:
        message = await self._feed.message()
        if message is None:
            raise _HttpError(503, "no measurement yet: try again in a few seconds")
        return message


async def _read_until_closed(socket: web.WebSocketResponse) -> None:
    """Answer pings and ignore other messages, until the client closes the connection or sends too many."""
    clock = asyncio.get_running_loop().time
    received, since = 0, clock()
    async for message in socket:
        if clock() - since > _CLIENT_MESSAGES_SECONDS:
            received, since = 0, clock()
        received += 1
        if received > _MAX_CLIENT_MESSAGES:
            await socket.close(code=WSCloseCode.POLICY_VIOLATION)
        elif message.type is WSMsgType.PING:
            await socket.pong(message.data)
