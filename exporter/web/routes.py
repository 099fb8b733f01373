"""The HTTP side: one visible route table."""

from __future__ import annotations

import gzip
import threading
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web

from exporter import page, threads
from exporter.config import ConfigError
from exporter.exposition import accepts_gzip, negotiate
from exporter.live import routes as live
from exporter.proxy.websocket import is_websocket

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp.typedefs import Handler
    from multidict import MultiMapping

    from exporter.exposition import Format
    from exporter.service import Service

_GZIP_FROM_BYTES = 1024
_GZIP_LEVEL = 3
_SHARE_OF_TIMEOUT = 0.9


def build_app(service: Service) -> web.Application:
    """Return the application that serves the running exporter."""
    app = web.Application(middlewares=[_plain_errors])
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
    """The handlers. Rendering happens in a thread, never on the event loop."""

    def __init__(self, service: Service, websocket: Handler) -> None:
        self._service = service
        self._websocket = websocket
        self._serving = 0
        self._lock = threading.Lock()

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """Serve the live feed to who wants a WebSocket, and a page of metrics to everybody else."""
        return await (self._websocket(request) if is_websocket(request) else self._page(request))

    async def _page(self, request: web.Request) -> web.Response:
        """Serve a page of the chosen collectors in the format the client asked for."""
        scrape = self._service.scrape
        only = chosen_collectors(request.query, scrape.names)
        format_ = negotiate(_joined(request.headers, "Accept"))
        zipped = accepts_gzip(_joined(request.headers, "Accept-Encoding"))
        timeout = scrape_timeout(request.headers.get("X-Prometheus-Scrape-Timeout-Seconds"))
        self._take_place()
        try:
            page = threads.call(partial(self._page_and_leave, partial(scrape.page, format_, only, timeout), zipped))
        except RuntimeError as error:  # no thread left on this machine
            self._leave_place()
            raise web.HTTPServiceUnavailable(text=f"{error}\n") from error
        return _response(format_, *await page)

    def _page_and_leave(self, page: partial[bytes], zipped: bool) -> tuple[bytes, bool]:
        """Render in the thread, which holds its place until it ends, also when the client has gone."""
        try:
            body = page()
            zipped = zipped and len(body) >= _GZIP_FROM_BYTES
            return (gzip.compress(body, _GZIP_LEVEL, mtime=0) if zipped else body), zipped
        finally:
            self._leave_place()

    def _take_place(self) -> None:
        most = self._service.config.web.max_requests
        with self._lock:
            if self._serving >= most:
                raise web.HTTPServiceUnavailable(text=f"{most} scrapes are being served already (web.max_requests)\n")
            self._serving += 1

    def _leave_place(self) -> None:
        with self._lock:
            self._serving -= 1

    async def healthy(self, _request: web.Request) -> web.Response:
        """Answer that the process lives."""
        return web.Response(text="modelhost-exporter is healthy.\n")

    async def ready(self, _request: web.Request) -> web.Response:
        """Answer that scrapes are served."""
        return web.Response(text="modelhost-exporter is ready.\n")

    async def reload(self, _request: web.Request) -> web.Response:
        """Reload the configuration, when that is allowed over HTTP."""
        if not self._service.config.web.enable_lifecycle:
            raise web.HTTPForbidden(text="reload over HTTP is off (web.enable_lifecycle)\n")
        try:
            await threads.call(self._service.reload)
        except ConfigError as error:
            raise web.HTTPInternalServerError(text=f"{error}\n") from error
        return web.Response(text="reloaded\n")


@web.middleware
async def _plain_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer 404 and 405 in one line of text, as everything else here."""
    try:
        return await handler(request)
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed) as error:
        error.text = f"{error.reason}: {request.method} {request.path}\n"
        raise


def chosen_collectors(query: MultiMapping[str], known: Iterable[str]) -> frozenset[str] | None:
    """Return the collectors that ``collect[]`` or ``exclude[]`` leave, None for all; 400 for a wrong choice."""
    collect, exclude = query.getall("collect[]", []), query.getall("exclude[]", [])
    if collect and exclude:
        raise web.HTTPBadRequest(text="give collect[] or exclude[], not both\n")
    enabled = frozenset(known)
    for name in (*collect, *exclude):
        if name not in enabled:
            raise web.HTTPBadRequest(text=f"no enabled collector {name!r}; enabled: {', '.join(sorted(enabled))}\n")
    if not collect and not exclude:
        return None
    return frozenset(collect) or enabled - frozenset(exclude)


def scrape_timeout(header: str | None) -> float | None:
    """Return how long collectors may take when Prometheus waits ``header`` seconds; None without a usable header.

    A tenth is kept for rendering and the way back.
    """
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return seconds * _SHARE_OF_TIMEOUT if 0 < seconds < float("inf") else None


def _joined(headers: MultiMapping[str], name: str) -> str:
    return ",".join(headers.getall(name, []))


def _response(format_: Format, body: bytes, zipped: bool) -> web.Response:
    headers = {"Content-Type": format_.content_type, "Vary": "Accept, Accept-Encoding"}
    if zipped:
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=body, headers=headers)
