"""Which requests are forwarded: those that every server reads alike (RFC 9112), since a wrong guess smuggles."""

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
    """A request that is not forwarded: the status to answer, and why."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__("client_error", code, reason)


def admitted(request: BaseRequest) -> str:
    """Return path and query exactly as the client sent them, of an absolute URL only these; Refused for what is odd."""
    if request.method == hdrs.METH_CONNECT:
        raise Refused(_METHOD_NOT_ALLOWED, "this is no tunnel")
    target = request.raw_path
    found = _TARGET.fullmatch(target)
    if found is None or not _PRINTABLE.fullmatch(target):
        raise Refused(_BAD_REQUEST, "the request target is neither a path nor an http URL")
    problem = _problem(request)
    if problem is not None:
        raise Refused(_BAD_REQUEST, problem)
    path = found["path"]
    return path if path.startswith("/") else f"/{path}"


def _problem(request: BaseRequest) -> str | None:
    """Return what is wrong with the fields; aiohttp has refused what breaks the grammar, and repeated framing."""
    headers = request.headers
    if request.version > HttpVersion11:
        return "this speaks HTTP/1.1"
    if hdrs.TRANSFER_ENCODING in headers:
        codings = [coding.strip().lower() for coding in headers.getall(hdrs.TRANSFER_ENCODING)]
        if codings != ["chunked"] or request.version < HttpVersion11:
            return "a body can be chunked once, in HTTP/1.1, and nothing else"
    if len(headers.getall(hdrs.HOST, ())) > 1 or not encodable(request.raw_headers):
        return "a header field holds bytes that are not UTF-8, or there are two hosts"
    # the parser takes what follows such a head for the new protocol, whatever a length says
    if hdrs.UPGRADE in headers and any(name in headers for name in _BODY) and _switches(request):
        return "a request with a body cannot switch protocols"
    if websocket.is_websocket(request) and not websocket.is_proper(request):
        return "the WebSocket's handshake lacks its key or its version"
    return None


def _switches(request: BaseRequest) -> bool:
    headers = request.headers
    return "upgrade" in tokens(headers, hdrs.CONNECTION) and bool(
        tokens(headers, hdrs.UPGRADE) & {websocket.PROTOCOL, "tcp"}
    )
