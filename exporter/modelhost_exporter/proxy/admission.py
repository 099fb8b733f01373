"""Reject requests with ambiguous framing (RFC 9112), to rule out request smuggling."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aiohttp import HttpVersion11, hdrs

from modelhost_exporter.proxy import websocket
from modelhost_exporter.proxy.failures import Failure
from modelhost_exporter.proxy.headers import encodable, tokens

if TYPE_CHECKING:
    from aiohttp.web import BaseRequest

_TARGET = re.compile(r"(?:[Hh][Tt][Tt][Pp][Ss]?://[^/?#]+)?(?P<path>/[^#]*|\?[^#]*|)")
_PRINTABLE = re.compile(r"[!-~]+")
_BODY = (hdrs.CONTENT_LENGTH, hdrs.TRANSFER_ENCODING)
_BAD_REQUEST, _METHOD_NOT_ALLOWED = 400, 405


class Refused(Failure):
    """A request that is not forwarded, with the status and the reason that the client gets."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__("client_error", code, reason)


def admitted(request: BaseRequest) -> str:
    """Return path and query exactly as the client sent them, without the origin of an absolute URL.

    Raises Refused for a request that servers might parse in different ways.
    """
    if request.method == hdrs.METH_CONNECT:
        raise Refused(_METHOD_NOT_ALLOWED, "CONNECT is not supported")
    target = request.raw_path
    found = _TARGET.fullmatch(target)
    if found is None or not _PRINTABLE.fullmatch(target):
        raise Refused(_BAD_REQUEST, "invalid request target: expected a path or an http:// URL")
    problem = _problem(request)
    if problem is not None:
        raise Refused(_BAD_REQUEST, problem)
    path = found["path"]
    return path if path.startswith("/") else f"/{path}"


def _problem(request: BaseRequest) -> str | None:
    """Return what is wrong with the headers; aiohttp has rejected invalid syntax and repeated framing headers."""
    headers = request.headers
    if request.version > HttpVersion11:
        return "unsupported HTTP version: use HTTP/1.1"
    if hdrs.TRANSFER_ENCODING in headers:
        codings = [coding.strip().lower() for coding in headers.getall(hdrs.TRANSFER_ENCODING)]
        if codings != ["chunked"] or request.version < HttpVersion11:
            return "unsupported Transfer-Encoding: only chunked, once and in HTTP/1.1, is accepted"
    if len(headers.getall(hdrs.HOST, ())) > 1 or not encodable(request.raw_headers):
        return "more than one Host header, or a header that is not valid UTF-8"
    # aiohttp's parser treats all bytes after such headers as the new protocol, whatever Content-Length is
    if hdrs.UPGRADE in headers and any(name in headers for name in _BODY) and _switches(request):
        return "a request with a body cannot upgrade to another protocol"
    if websocket.is_websocket(request) and not websocket.is_proper(request):
        return "invalid WebSocket handshake: expected Sec-WebSocket-Version: 13 and a key of 16 bytes"
    return None


def _switches(request: BaseRequest) -> bool:
    headers = request.headers
    return "upgrade" in tokens(headers, hdrs.CONNECTION) and bool(
        tokens(headers, hdrs.UPGRADE) & {websocket.PROTOCOL, "tcp"}
    )
