"""A stand-in for the live feed: it serves the real page, and sends the messages of a test."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from aiohttp import web

from modelhost_exporter import page
from modelhost_exporter.config.model import Config
from modelhost_exporter.scraping.scrape import Scrape

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Mapping, Sequence

    from modelhost_exporter.collector import Collector
    from modelhost_exporter.service import Service

DEADLINE_SECONDS = 20.0


@dataclass
class _Service:
    """The parts of the running exporter that the page uses."""

    config: Config
    scrape: Scrape


class StandInFeed:
    """One server in a thread of its own. Each client receives the latest message at once, then each that is sent.

    ``refused`` is the reason of 403 responses of the feed and the API; ``without`` names missing static files.
    """

    def __init__(  # noqa: PLR0913 - one for each behaviour
        self,
        message: dict[str, Any],
        history: dict[str, Any] | None = None,
        *,
        port: int = 0,
        collectors: Mapping[str, Collector] | None = None,
        refused: str | None = None,
        websockets: bool = True,
        without: Sequence[str] = (),
    ) -> None:
        self.message = message
        self.history = history or {"interval": 2, "timestamps": [], "series": {}, "gpus": [], "models": {}}
        self.requests: list[dict[str, Any]] = []
        """The recent requests."""
        self.queries: list[dict[str, str]] = []
        """The query parameters of requests for them."""
        self.processes: dict[str, Any] = {"processes": 0, "byCpu": [], "byMemory": []}
        """The response of /api/processes."""
        self.asked: list[str] = []
        self.hangs = False
        """Whether only requests for the page's files are answered, as if the machine were asleep."""
        self.waiting = 0
        """Requests that wait for a response because of that."""
        self._refused = refused
        self._websockets = websockets
        self._without = without
        self.service = _Service(Config(), Scrape(collectors or {}, 5.0))
        self._port = port
        self._viewers: set[asyncio.Queue[str | None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.url = self._call(self._start())

    def send(self, message: dict[str, Any]) -> None:
        """Send a message to all clients; later ones receive it first."""
        self.message = message
        self._loop.call_soon_threadsafe(self._tell, json.dumps(message))

    def hang_up(self) -> None:
        """Close all connections."""
        self._loop.call_soon_threadsafe(self._tell, None)

    def has_been_asked(self, path: str, times: int) -> bool:
        """Return whether a path was requested that often."""
        return self.asked.count(path) >= times

    def close(self) -> None:
        """Stop serving; a second call does nothing."""
        if self._loop.is_closed():
            return
        self.hang_up()
        self._call(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE_SECONDS)
        self._loop.close()

    def _call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(DEADLINE_SECONDS)

    def _tell(self, text: str | None) -> None:
        for viewer in self._viewers:
            viewer.put_nowait(text)

    async def _start(self) -> str:
        app = web.Application(middlewares=[self._guard])
        app.add_routes(
            [
                web.get("/metrics", self._socket),
                web.get("/api/live", self._events),
                web.get("/api/history", self._past),
                web.get("/api/requests", self._recent),
                web.get("/api/processes", self._processes),
            ]
        )
        page.add_routes(app, cast("Service", self.service))
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.asked.append(request.path)
        about_numbers = request.path.startswith(("/api/", "/metrics"))
        if self.hangs and about_numbers:
            await self._hang()
        if self._refused and about_numbers:
            return web.json_response({"error": self._refused}, status=403)
        if request.path.removeprefix("/static/") in self._without:
            raise web.HTTPNotFound
        response: web.StreamResponse = await handler(request)
        return response

    async def _hang(self) -> None:
        """Wait until the client disconnects."""
        self.waiting += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.waiting -= 1

    async def _past(self, _request: web.Request) -> web.Response:
        return web.json_response(self.history)

    async def _recent(self, request: web.Request) -> web.Response:
        self.queries.append(dict(request.query))
        return web.json_response({"requests": self.requests})

    async def _processes(self, _request: web.Request) -> web.Response:
        return web.json_response(self.processes)

    @contextlib.contextmanager
    def _viewer(self) -> Iterator[asyncio.Queue[str | None]]:
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        queue.put_nowait(json.dumps(self.message))
        self._viewers.add(queue)
        try:
            yield queue
        finally:
            self._viewers.discard(queue)

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        if not self._websockets:
            return web.Response(text="no upgrade here")
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        with self._viewer() as queue:
            while (text := await queue.get()) is not None:
                await socket.send_str(text)
        await socket.close()
        return socket

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await response.prepare(request)
        with self._viewer() as queue:
            while (text := await queue.get()) is not None:
                await response.write(f"event: message\ndata: {text}\n\n".encode())
        return response
