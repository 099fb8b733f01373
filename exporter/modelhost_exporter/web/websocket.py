"""Detect the handshake of a WebSocket (RFC 6455) among the requests of the web port."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import hdrs

from modelhost_exporter.proxy.request_validation import is_proper_handshake

if TYPE_CHECKING:
    from aiohttp import web

PROTOCOL = "websocket"


def is_websocket(request: web.BaseRequest) -> bool:
    """Return whether a request asks to become a WebSocket (section 4.1)."""
    headers = request.headers
    return (
        hdrs.UPGRADE in headers
        and request.method == hdrs.METH_GET
        and PROTOCOL in _tokens(request, hdrs.UPGRADE)
        and "upgrade" in _tokens(request, hdrs.CONNECTION)
    )


def is_proper(request: web.BaseRequest) -> bool:
    """Return whether a handshake has the one version that exists and a key of 16 bytes (section 4.2.1)."""
    headers = request.headers
    return is_proper_handshake(headers.get(hdrs.SEC_WEBSOCKET_KEY, ""), headers.get(hdrs.SEC_WEBSOCKET_VERSION, ""))


def _tokens(request: web.BaseRequest, name: str) -> set[str]:
    return {token.strip().lower() for line in request.headers.getall(name, ()) for token in line.split(",")}
