"""The live feed over HTTP: a WebSocket on the metrics path, server-sent events, and a JSON API."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

from aiohttp import HttpVersion11, WSCloseCode, WSMsgType, hdrs, web

from modelhost_exporter.live import models
from modelhost_exporter.live.broadcaster import Broadcaster
from modelhost_exporter.live.meter import INTERVAL_SECONDS
from modelhost_exporter.live.subscribers import Subscriber, chunked_event, event, websocket_frame
from modelhost_exporter.proxy.websocket import is_proper
from modelhost_exporter.web import origin_check

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from aiohttp.typedefs import Handler

    from modelhost_exporter.live.broadcaster import MessageSource
    from modelhost_exporter.live.models import Model
    from modelhost_exporter.live.subscribers import Framing

    Answer = Callable[[web.Request], Awaitable[bytes]]
    Begun = Callable[[web.Request, Mapping[str, str]], Awaitable[web.StreamResponse]]

_HEADERS = {
    hdrs.CACHE_CONTROL: "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",  # no image or script elsewhere, where the browser does not say whose
}
_EVENT_HEADERS = {hdrs.CONTENT_TYPE: "text/event-stream", "X-Accel-Buffering": "no"}  # nginx would hold events back
_MAX_HEARD_BYTES = 4096
_MAX_HEARD = 100
_HEARD_SECONDS = 60.0
_CLOSE_SECONDS = 1.0


class _Problem(Exception):
    """Why a request is not answered, and with which status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def add_routes(app: web.Application, source: MessageSource, interval_seconds: float = INTERVAL_SECONDS) -> Handler:
    """Add what is below /api; returns the handler for a request to the metrics path that wants a WebSocket."""
    routes = _Routes(Broadcaster(source, interval_seconds), source)
    app.add_routes(
        [
            web.get("/api/live", routes.guarded(routes.events), allow_head=False),
            web.get("/api/models", routes.json(routes.models)),
            web.get("/api/models/metrics", routes.json(routes.model)),
            web.get("/api/history", routes.json(routes.history)),
            web.route("*", "/api/{rest:.*}", routes.json(routes.nothing)),
        ]
    )
    app.on_startup.append(routes.start)
    app.on_shutdown.append(routes.stop)
    return routes.guarded(routes.websocket)


class _Routes:
    """The handlers."""

    def __init__(self, feed: Broadcaster, source: MessageSource) -> None:
        self._feed = feed
        self._source = source
        self._watching = 0

    async def start(self, _app: web.Application) -> None:
        """Begin to measure."""
        self._feed.start()

    async def stop(self, _app: web.Application) -> None:
        """End it."""
        await self._feed.stop()

    def guarded(self, begun: Begun) -> Handler:
        """Answer; a problem is JSON. ``begun`` is given the headers that its reply needs."""

        async def handle(request: web.Request) -> web.StreamResponse:
            headers = {**_HEADERS, **origin_check.reader_headers(request)}
            try:
                return await begun(request, headers)
            except _Problem as problem:
                return web.json_response({"error": str(problem)}, status=problem.status, headers=headers)

        return handle

    def json(self, answer: Answer) -> Handler:
        """Answer with JSON."""

        async def begun(request: web.Request, headers: Mapping[str, str]) -> web.StreamResponse:
            return web.Response(body=await answer(request), content_type="application/json", headers=headers)

        return self.guarded(begun)

    async def models(self, _request: web.Request) -> bytes:
        """Return the models."""
        return json.dumps({"models": await self._models()}).encode()

    async def model(self, request: web.Request) -> bytes:
        """Return one model."""
        wanted = request.query.get("model")
        if not wanted:
            raise _Problem(400, "which one? ?model=SERVER/MODEL")
        found = models.find(await self._models(), wanted)
        if found is None:
            raise _Problem(404, f"no model {wanted!r}, or several servers have it (/api/models lists them)")
        return json.dumps(found).encode()

    async def history(self, _request: web.Request) -> bytes:
        """Return the last hour."""
        try:
            return await self._feed.history()
        except RuntimeError as error:  # no thread left on this machine
            raise _Problem(503, str(error)) from error

    async def nothing(self, request: web.Request) -> bytes:
        """Return 404."""
        raise _Problem(404, f"Not Found: {request.method} {request.path}")

    async def events(self, request: web.Request, headers: Mapping[str, str]) -> web.StreamResponse:
        """Send server-sent events for as long as the client listens."""
        response = web.StreamResponse(headers={**headers, **_EVENT_HEADERS})
        framing: Framing = event
        if request.version >= HttpVersion11:
            response.enable_chunked_encoding()
            framing = chunked_event
        with self._place(), contextlib.suppress(ConnectionError):
            await response.prepare(request)
            with self._viewer(request, framing) as viewer:
                await viewer.gone.wait()
        return response

    async def websocket(self, request: web.Request, _headers: Mapping[str, str]) -> web.StreamResponse:
        """Send messages over a WebSocket until either side closes it."""
        if not is_proper(request):
            raise _Problem(400, "not the handshake of a WebSocket (version 13)")
        asked = request.headers.get(hdrs.SEC_WEBSOCKET_PROTOCOL, "").partition(",")[0].strip()
        socket = web.WebSocketResponse(
            protocols=[asked] if asked else (),  # whatever it is called
            compress=False,
            autoping=False,
            max_msg_size=_MAX_HEARD_BYTES,
            timeout=_CLOSE_SECONDS,
        )
        with self._place(), contextlib.suppress(ConnectionError):
            await socket.prepare(request)
            with self._viewer(request, websocket_frame):
                await _hear(socket)
        return socket

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        most = self._source.config.live.max_viewers
        if self._watching >= most:
            raise _Problem(503, f"{most} are watching already (live.max_viewers)")
        self._watching += 1
        try:
            yield
        finally:
            self._watching -= 1

    @contextlib.contextmanager
    def _viewer(self, request: web.Request, framing: Framing) -> Iterator[Subscriber]:
        transport: asyncio.Transport | None = request.transport
        if transport is None:
            raise ConnectionResetError("gone before it began")
        viewer = Subscriber(transport, framing)
        self._feed.viewers.add(viewer)
        self._feed.wake()
        try:
            yield viewer
        finally:
            self._feed.viewers.remove(viewer)

    async def _models(self) -> list[Model]:
        message = await self._feed.message()
        if message is None:
            raise _Problem(503, "nothing has been measured yet")
        found: list[Model] = message["models"]
        return found


async def _hear(socket: web.WebSocketResponse) -> None:
    """Answer pings and ignore everything else, until the client closes or sends too much."""
    clock = asyncio.get_running_loop().time
    heard, since = 0, clock()
    async for message in socket:
        if clock() - since > _HEARD_SECONDS:
            heard, since = 0, clock()
        heard += 1
        if heard > _MAX_HEARD:
            await socket.close(code=WSCloseCode.POLICY_VIOLATION)
        elif message.type is WSMsgType.PING:
            await socket.pong(message.data)
