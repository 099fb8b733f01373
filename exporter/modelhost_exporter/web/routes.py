"""The routes of the web port."""

from __future__ import annotations

import asyncio
import gzip
import threading
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web

from modelhost_exporter import page, threads
from modelhost_exporter.live import routes as live
from modelhost_exporter.metrics.exposition import accepts_gzip, negotiate
from modelhost_exporter.process.error_frames import without_frames
from modelhost_exporter.reloads import ReloadFailed
from modelhost_exporter.web import authentication, origin_check
from modelhost_exporter.web.websocket import is_websocket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aiohttp.typedefs import Handler
    from multidict import MultiMapping

    from modelhost_exporter.metrics.exposition import Format
    from modelhost_exporter.service import Service

_GZIP_FROM_BYTES = 1024
_GZIP_LEVEL = 3
_SHARE_OF_TIMEOUT = 0.9
_MIN_TIMEOUT_SECONDS = 0.1
_NOT_READY = 503
_TURNS = 2
"""Turns of the event loop to wait before rendering, so that no page is rendered for a client that has disconnected."""


def build_app(service: Service, guard: authentication.Guard | None = None) -> web.Application:
    """Build the aiohttp application of the exporter; ``guard`` decides who may send requests, None: everybody."""
    guarded = [] if guard is None else [authentication.middleware(guard)]
    app = web.Application(middlewares=[_plain_errors, *guarded, origin_check.middleware(service)])
    if guard is not None:
        authentication.protect(app, guard)
    pages = _Pages(service, live.add_routes(app, service))
    app.add_routes(
        [
            web.get(service.config.web.telemetry_path, pages.metrics),
            web.get("/-/healthy", pages.healthy),
            web.get("/-/ready", pages.ready),
            web.post("/-/reload", pages.reload),
        ]
    )
    page.add_routes(app, service)
    return app


class _Pages:
    """The handlers. Pages are rendered in threads, never on the event loop."""

    def __init__(self, service: Service, websocket: Handler) -> None:
        self._service = service
        self._websocket = websocket
        self._serving = 0
        self._lock = threading.Lock()

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """Serve the metrics; for a WebSocket request serve the live feed."""
        return await (self._websocket(request) if is_websocket(request) else self._page(request))

    async def _page(self, request: web.Request) -> web.Response:
        """Serve the selected collectors in the format that the client accepts."""
        scrape = self._service.scrape
        only = chosen_collectors(request.query, scrape.names)
        created = self._service.config.web.created_lines
        format_ = negotiate(_joined(request.headers, "Accept"), created=created)
        zipped = accepts_gzip(_joined(request.headers, "Accept-Encoding"))
        timeout = scrape_timeout(request.headers.get("X-Prometheus-Scrape-Timeout-Seconds"))
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        leave = self._take_place()
        try:
            page = threads.call(
                partial(_rendered, partial(scrape.page, format_, only, timeout), zipped, leave), threads.PAGES
            )
        except (RuntimeError, MemoryError) as error:  # no thread left on this machine
            leave()
            raise web.HTTPServiceUnavailable(text=f"{error or 'out of memory'}\n") from error
        page.add_done_callback(lambda page: None if page.cancelled() else leave())  # the thread may not have started
        try:
            return _response(format_, *await page)
        except MemoryError as error:
            raise web.HTTPServiceUnavailable(text="out of memory\n") from error

    def _take_place(self) -> Callable[[], None]:
        """Count a scrape in progress and return the function that ends the count; 503 when there are too many."""
        limit = self._service.config.web.max_requests
        with self._lock:
            if self._serving >= limit:
                raise web.HTTPServiceUnavailable(text=f"{limit} scrapes are being served already (web.max_requests)\n")
            self._serving += 1
        place = [1]

        def leave() -> None:
            with self._lock:
                if place:
                    self._serving -= place.pop()

        return leave

    async def healthy(self, _request: web.Request) -> web.Response:
        """Respond with 200: the process is running."""
        return web.Response(text="modelhost-exporter is healthy.\n")

    async def ready(self, _request: web.Request) -> web.Response:
        """Respond with 200 once all collectors have run, until the exporter stops; else with 503 and the reason."""
        missing = self._service.readiness.missing
        if missing:
            return web.Response(status=_NOT_READY, text=f"modelhost-exporter is not ready: {missing}.\n")
        return web.Response(text="modelhost-exporter is ready.\n")

    async def reload(self, _request: web.Request) -> web.Response:
        """Reload the configuration, if ``web.enable_lifecycle`` allows it."""
        if not self._service.config.web.enable_lifecycle:
            raise web.HTTPForbidden(text="reload over HTTP is off (web.enable_lifecycle)\n")
        try:
            await self._service.reloads.request()
        except ReloadFailed as error:
            raise web.HTTPInternalServerError(text=f"{error}\n") from error
        return web.Response(text="reloaded\n")


@web.middleware
async def _plain_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Return HTTP errors as responses, and those of 404 and 405 in one line of text.

    Raised further, the error would be referenced by frames of its own traceback: a reference cycle.
    """
    try:
        return await handler(request)
    except web.HTTPException as error:
        if isinstance(error, (web.HTTPNotFound, web.HTTPMethodNotAllowed)):
            error.text = f"{error.reason}: {request.method} {request.path}\n"
        without_frames(error)
        kept = {name: value for name, value in error.headers.items() if not name.startswith("Content-")}
        return web.Response(status=error.status, reason=error.reason, text=error.text, headers=kept)


def _rendered(page: partial[bytes], zipped: bool, leave: Callable[[], None]) -> tuple[bytes, bool]:
    """Render in a thread; the scrape counts until the thread ends, even if the client has disconnected."""
    try:
        body = page()
        zipped = zipped and len(body) >= _GZIP_FROM_BYTES
        return (gzip.compress(body, _GZIP_LEVEL, mtime=0) if zipped else body), zipped
    finally:
        leave()


def chosen_collectors(query: MultiMapping[str], known: Iterable[str]) -> frozenset[str] | None:
    """Return the collectors selected by ``collect[]`` or ``exclude[]``, None for all; 400 for an invalid query."""
    collect, exclude = query.getall("collect[]", []), query.getall("exclude[]", [])
    if collect and exclude:
        raise web.HTTPBadRequest(text="use collect[] or exclude[], not both\n")
    enabled = frozenset(known)
    for name in (*collect, *exclude):
        if name not in enabled:
            raise web.HTTPBadRequest(text=f"no enabled collector {name!r}; enabled: {', '.join(sorted(enabled))}\n")
    if not collect and not exclude:
        return None
    return frozenset(collect) or enabled - frozenset(exclude)


def scrape_timeout(header: str | None) -> float | None:
    """Return the collectors' deadline in seconds for the scrape timeout in ``header``; None without a valid header.

    A tenth of the timeout is reserved for rendering and sending; the result is at least 0.1 s.
    """
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return max(_MIN_TIMEOUT_SECONDS, seconds * _SHARE_OF_TIMEOUT) if 0 < seconds < float("inf") else None


def _joined(headers: MultiMapping[str], name: str) -> str:
    return ",".join(headers.getall(name, []))


def _response(format_: Format, body: bytes, zipped: bool) -> web.Response:
    headers = {"Content-Type": format_.content_type, "Vary": "Accept, Accept-Encoding"}
    if zipped:
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=body, headers=headers)
