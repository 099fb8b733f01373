"""Authenticate each request to the web port, whatever its path."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from aiohttp import hdrs, web

from modelhost_exporter.security.authentication import ClientIdentity, Credentials, Refusal
from modelhost_exporter.web.websocket import is_websocket

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.typedefs import Handler, Middleware

IDENTITY = web.RequestKey("identity", ClientIdentity)
"""Who sent the request."""

_HEADERS = {hdrs.CACHE_CONTROL: "no-store", "X-Content-Type-Options": "nosniff"}
_POLICY = "Content-Security-Policy"
_OWN_SITES = ("same-origin", "none")


class Guard(Protocol):
    """Decides about requests."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers to add to each response."""
        ...

    async def check(self, credentials: Credentials) -> ClientIdentity | Refusal:
        """Return who sent a request, or why it is refused."""
        ...


def protect(app: web.Application, guard: Guard) -> None:
    """Add the guard's headers to each response of an application."""

    async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
        for name, value in guard.headers.items():
            if name == _POLICY and name in response.headers:  # that of the page stays in force beside the file's
                response.headers.add(name, value)
            else:
                response.headers[name] = value

    app.on_response_prepare.append(add_headers)


def middleware(guard: Guard) -> Middleware:
    """Return a middleware that responds to requests which the guard refuses."""

    @web.middleware
    async def handle(request: web.Request, handler: Handler) -> web.StreamResponse:
        if getattr(request.protocol, "is_internal", False):
            return await handler(request)
        decision = await guard.check(credentials_of(request))
        if isinstance(decision, Refusal):
            return _response(request, decision)
        request[IDENTITY] = decision
        return await handler(request)

    return handle


def credentials_of(request: web.Request) -> Credentials:
    """Return the parts of a request that identify its client."""
    transport = request.transport
    certificate = None if transport is None else transport.get_extra_info("peercert")
    return Credentials(
        request.raw_headers,
        getattr(request.protocol, "address", ""),
        request.path,
        request.method,
        certificate,
        is_encrypted=request.secure,
    )


def _response(request: web.Request, refused: Refusal) -> web.Response:
    """Return the refusal as JSON for the API and WebSockets, else as text."""
    if request.path.startswith("/api/") or is_websocket(request):
        response = web.json_response({"error": refused.text}, status=refused.status, headers=_HEADERS)
    else:
        response = web.Response(text=f"{refused.text}\n", status=refused.status, headers=_HEADERS)
    if request.headers.get("Sec-Fetch-Site", "none") in _OWN_SITES:  # else another site's page opens a login dialog
        for challenge in refused.challenges:
            response.headers.add(hdrs.WWW_AUTHENTICATE, challenge)
    if refused.retry_after is not None:
        response.headers[hdrs.RETRY_AFTER] = str(math.ceil(refused.retry_after))
    return response
