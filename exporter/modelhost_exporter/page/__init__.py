"""The live page: its files, served with a content security policy that allows no others."""

from __future__ import annotations

import hashlib
import html
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from aiohttp import web

from modelhost_exporter import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelhost_exporter.service import Service

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
CHART_LIBRARY = "uPlot.iife.min.js"
"""Added by the build (hatch_build.py); absent from a source tree that was not installed."""

TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".webmanifest": "application/manifest+json",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; manifest-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script';"
    " trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # browsers revalidate with the ETag, so that an upgrade takes effect at once
}


def add_routes(app: web.Application, service: Service) -> None:
    """Serve the page at ``/`` and its files below ``/static/``; all files are read once, now."""
    page = _Page(service, {file.name: _File(file.read_bytes(), file.suffix) for file in STATIC.iterdir()})
    app.add_routes([web.get("/", page.index), web.get("/static/{name}", page.file)])


@dataclass(frozen=True)
class _File:
    """The body of a response, and the suffix that determines its type."""

    body: bytes
    suffix: str

    @cached_property
    def etag(self) -> str:
        return hashlib.sha256(self.body).hexdigest()[:32]

    def response(self, request: web.Request) -> web.Response:
        """Return the file, or 304 where the client has this version."""
        known = any(tag.value in (self.etag, "*") for tag in request.if_none_match or ())
        response = web.Response(status=304) if known else web.Response(body=self.body)
        response.headers.update(_HEADERS)
        if not known:
            response.content_type = TYPES[self.suffix]
            response.charset = None if self.suffix == ".png" else "utf-8"
        response.etag = self.etag
        return response


def _is_module(name: str) -> bool:
    return name.endswith(".js") and name not in (CHART_LIBRARY, "theme_early.js")


class _Page:
    """The handlers of the page and its files."""

    def __init__(self, service: Service, files: Mapping[str, _File]) -> None:
        self._service = service
        self._files = files
        self._template = Template(files["index.html"].body.decode())
        self._modules = "\n".join(  # so that browsers need not read one to find the next
            f'<link rel="modulepreload" href="static/{name}">' for name in sorted(files) if _is_module(name)
        )
        if CHART_LIBRARY not in files:
            log.warning("the live page has no charts: install the exporter again where npm's registry can be reached")

    async def index(self, request: web.Request) -> web.Response:
        """Return the page, with the links of the configuration in force."""
        return _File(self._index().encode(), ".html").response(request)

    async def file(self, request: web.Request) -> web.Response:
        """Return a file; 404 for an unknown name."""
        name = request.match_info["name"]
        if name not in self._files or name == "index.html":
            raise web.HTTPNotFound
        return self._files[name].response(request)

    def _index(self) -> str:
        settings = self._service.config.web
        metrics = html.escape(settings.telemetry_path.lstrip("/"))  # relative: works below a reverse proxy's path
        collectors = "\n".join(
            f'<li><a href="{metrics}?collect[]={name}">{name}</a></li>' for name in self._service.scrape.names
        )
        grafana = (
            f'<a class="button" id="grafana" href="{html.escape(settings.grafana_url.text)}">Grafana</a>'
            if settings.grafana_url
            else ""
        )
        return self._template.substitute(
            metrics=metrics,
            collectors=collectors,
            grafana=grafana,
            processes="" if self._service.config.live.processes else " hidden",
            modules=self._modules,
            recent="" if self._service.config.requests.recent else " hidden",
            version=html.escape(__version__),
        )
