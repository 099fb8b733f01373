"""Reject requests from pages of other sites: check ``Host`` and ``Origin`` on every route.

Any web page can make a browser send requests to 127.0.0.1. ``Origin`` shows that a request comes from another site;
``Host`` shows that the site's own name was pointed to this machine (DNS rebinding). IP addresses, ``localhost``, this
machine's names and configured names pass with any port. Clients other than browsers send no ``Origin``.

Scrapers use names of all kinds (a cluster's service, a tunnel), so on a listener that is not on loopback metrics and
health checks accept any ``Host``, unless ``web.strict_host`` is set.
"""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from aiohttp import hdrs, web

from modelhost_exporter.config.address import is_loopback
from modelhost_exporter.live.settings import AllowedHost
from modelhost_exporter.logs.rate_limit import LineLimit
from modelhost_exporter.process.machine_names import MachineNames, is_address
from modelhost_exporter.web.websocket import is_websocket

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from aiohttp.typedefs import Handler, Middleware
    from multidict import CIMultiDictProxy

    from modelhost_exporter.config.address import Address
    from modelhost_exporter.config.model import Config, Web

log = logging.getLogger(__name__)

PAGE_FILES = "/static/"
HEALTH_PATHS = ("/-/healthy", "/-/ready")

_READER = web.RequestKey("reader", str)
_REFUSAL_HEADERS = {
    hdrs.CACHE_CONTROL: "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_SAFE_METHODS = ("GET", "HEAD")
_OWN_SITES = ("same-origin", "none")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_MAX_NAME_LENGTH = 100
_ORIGIN = re.compile(r"(https?)://(.+)", re.IGNORECASE)


class RequestSource(Protocol):
    """The owner of the configuration in force."""

    @property
    def config(self) -> Config:
        """Return the configuration in force."""
        ...


class RefusedOrigin(Exception):
    """A request that may come from a page of another site: the problem, and the flag that allows it."""

    def __init__(self, problem: str, flag: str = "") -> None:
        super().__init__(f"{problem}: add {flag} to allow it" if flag else problem)
        self.problem = problem
        self.flag = flag


class CheckedRequest(NamedTuple):
    """The parts of a request that are checked."""

    method: str
    headers: CIMultiDictProxy[str]
    is_scrape: bool
    """Whether the request is for the metrics (not the live feed) or a health check."""
    is_on_loopback: bool
    """Whether the listener that accepted the connection is on a loopback address."""
    is_page_file: bool = False
    """Whether the request is for a file of the page, which is the same for everyone."""


def middleware(source: RequestSource, names: MachineNames | None = None) -> Middleware:
    """Return a middleware that responds with 403 to refused requests; ``names`` are this machine's."""
    check = OriginCheck(names or MachineNames())
    refusals = RefusalLog()

    @web.middleware
    async def handle(request: web.Request, handler: Handler) -> web.StreamResponse:
        settings = source.config.web
        try:
            reader = check.reader(_described(request, settings), settings)
        except RefusedOrigin as refused:
            refusals.add(request.remote, request.path, refused)
            return _refusal(request, refused)
        if reader is not None:
            request[_READER] = reader
        return await handler(request)

    return handle


def reader_headers(request: web.Request) -> Mapping[str, str]:
    """Return the CORS headers that allow a permitted page of another origin to read the response."""
    reader = request.get(_READER)
    return {} if reader is None else {hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: reader, hdrs.VARY: "Origin"}


class OriginCheck:
    """The rules for ``Host`` and ``Origin``."""

    def __init__(self, names: MachineNames) -> None:
        self._names = names

    def reader(self, request: CheckedRequest, settings: Web) -> str | None:
        """Return the origin of an allowed page of another site, None for other allowed requests.

        Raises RefusedOrigin.
        """
        host = self._check_host(request, settings)
        origins = request.headers.getall(hdrs.ORIGIN, [])
        if request.is_page_file and request.method in _SAFE_METHODS:
            return None  # a reverse proxy may replace Host: the page has to load, to show what the feed refuses
        if not origins:
            _check_site(request)
            return None
        if len(origins) > 1:
            raise RefusedOrigin("more than one Origin")
        return _reader(origins[0], host, request.method, settings)

    def _check_host(self, request: CheckedRequest, settings: Web) -> AllowedHost | None:
        """Return the host; None for one that cannot be parsed where any is accepted. Raises RefusedOrigin."""
        hosts = request.headers.getall(hdrs.HOST, [])
        if len(hosts) > 1:
            raise RefusedOrigin("more than one Host")
        if not hosts:  # HTTP/1.0, as health checkers send it; browsers always send Host
            if request.is_scrape:
                return None
            raise RefusedOrigin("no Host")
        host = _parsed(hosts[0])
        if host is not None and self._is_own(host, settings):
            return host
        if request.is_scrape and not request.is_on_loopback and not settings.strict_host:
            return host
        shown = host.name if host is not None else "NAME"
        raise RefusedOrigin(
            f"the host {_shown(hosts[0])} is not known", f"--web.allowed-host={_shown(shown, quote='')}"
        )

    def _is_own(self, host: AllowedHost, settings: Web) -> bool:
        if is_address(host.name) or host.name in self._names:
            return True
        return any(host.name == other.name and other.port in (None, host.port) for other in settings.allowed_hosts)


def _check_site(request: CheckedRequest) -> None:
    """Refuse requests of another site's page that carry no Origin: images and scripts, but not links."""
    headers = request.headers
    if headers.get("Sec-Fetch-Site", "none") in _OWN_SITES:
        return
    is_link = headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest") == "document"
    if not (is_link and request.method in _SAFE_METHODS):
        raise RefusedOrigin("requested by a page of another site")


def _reader(text: str, host: AllowedHost | None, method: str, settings: Web) -> str | None:
    """Return an allowed origin other than the request's own, None for its own; raises RefusedOrigin."""
    origin = _parsed_origin(text)
    if origin is not None and host is not None:
        scheme, name, port = origin
        if (name, port) == (host.name, host.port or _DEFAULT_PORTS[scheme]):
            return None
    if method not in _SAFE_METHODS:
        raise RefusedOrigin(f"a page of {_shown(text)} may only read")
    if origin is not None and (is_loopback(origin[1]) or (host is not None and origin[1] == host.name)):
        return text
    if any(text.lower() == allowed.text for allowed in settings.allowed_origins):
        return text
    flag = _shown(text, quote="") if origin is not None else "ORIGIN"
    raise RefusedOrigin(f"the origin {_shown(text)} is not known", f"--web.allowed-origin={flag}")


def _parsed(text: str) -> AllowedHost | None:
    try:
        return AllowedHost.from_text(text)
    except ValueError:
        return None


def _parsed_origin(text: str) -> tuple[str, str, int] | None:
    """Return scheme, name and port; None for ``null`` and for an invalid origin."""
    found = _ORIGIN.fullmatch(text)
    host = _parsed(found[2]) if found else None
    if found is None or host is None:
        return None
    scheme = found[1].lower()
    return scheme, host.name, host.port or _DEFAULT_PORTS[scheme]


def _shown(text: str, quote: str = '"') -> str:
    """Return untrusted text for display: truncated, control characters replaced."""
    cut = text[:_MAX_NAME_LENGTH] + ("…" if len(text) > _MAX_NAME_LENGTH else "")
    return quote + "".join(each if each.isprintable() and each != '"' else "?" for each in cut) + quote


def _described(request: web.Request, settings: Web) -> CheckedRequest:
    is_scrape = request.path in (settings.telemetry_path, *HEALTH_PATHS) and not is_websocket(request)
    transport = request.transport
    local = transport.get_extra_info("sockname") if transport is not None else None
    return CheckedRequest(
        request.method,
        request.headers,
        is_scrape,
        is_on_loopback(local, settings.listen_addresses),
        is_page_file=request.path.startswith(PAGE_FILES),
    )


def is_on_loopback(local: object, listeners: Sequence[Address]) -> bool:
    """Return whether a connection was accepted by a listener on loopback; ``local`` is the local socket address.

    A listener on every address of the machine does not count, even if the connection came over loopback.
    """
    if not isinstance(local, tuple):
        return True
    if not is_loopback(str(local[0]).partition("%")[0]):
        return False
    return not any(each.port in (0, local[1]) and each.is_every_address for each in listeners)


class RefusalLog:
    """Log refused requests, at most one line a minute."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._limit = LineLimit(1, now)

    def add(self, client: str | None, path: str, refused: RefusedOrigin) -> None:
        """Log a refused request, or count it for the next line."""
        more = self._limit.pass_line()
        if more is None:
            return
        fields: dict[str, object] = {"client": client, "path": _shown(path, quote=""), "reason": str(refused)}
        if more:
            fields["more"] = more
        log.warning("request refused", extra={"fields": fields})


def _refusal(request: web.Request, refused: RefusedOrigin) -> web.Response:
    """Return a 403 response with the reason, as JSON for the API and WebSockets, else as text."""
    if request.path.startswith("/api/") or is_websocket(request):
        return web.json_response({"error": str(refused)}, status=403, headers=_REFUSAL_HEADERS)
    return web.Response(text=f"{refused}\n", status=403, headers=_REFUSAL_HEADERS)
