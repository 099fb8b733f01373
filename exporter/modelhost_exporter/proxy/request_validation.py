"""Reject requests with ambiguous framing or targets (RFC 9112), to rule out request smuggling.

llhttp, in its strict mode, has already rejected invalid syntax, folded lines, bare LF, repeated or combined
Content-Length and Transfer-Encoding. What it accepts and servers may read in different ways is rejected here.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

from modelhost_exporter.proxy import headers
from modelhost_exporter.proxy.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelhost_exporter.proxy.downstream import Request

_TARGET = re.compile(rb"(?:[Hh][Tt][Tt][Pp][Ss]?://[^/?#]+)?(?P<path>/[^#]*|\?[^#]*|)")
_PRINTABLE = re.compile(rb"[!-~]+")
_LENGTH = re.compile(rb"(?:0|[1-9][0-9]{0,18})[ \t]*")  # llhttp keeps the space after a value
_HOST = re.compile(rb"(?P<name>[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_LINE = re.compile(rb"(?<![A-Z-])(?P<method>[A-Z-]+)( +)(?P<target>[!-~]+)( +)HTTP/")
_TOKEN_AND_SPACE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64} ")
_BAD_REQUEST, _FORBIDDEN, _METHOD_NOT_ALLOWED, _NOT_IMPLEMENTED = 400, 403, 405, 501
_KEY_BYTES = 16
_WEBSOCKET_VERSION = "13"


def validated_path(request: Request) -> bytes:
    """Return path and query exactly as the client sent them, without the origin of an absolute URL.

    Raises Refused for a request that servers might parse in different ways.
    """
    if request.method == b"CONNECT":
        raise Refused(_METHOD_NOT_ALLOWED, "CONNECT is not supported")
    found = _TARGET.fullmatch(request.target)
    if found is None or not _PRINTABLE.fullmatch(request.target):
        raise Refused(_BAD_REQUEST, "invalid request target: expected a path or an http:// URL")
    problem = _problem(request)
    if problem is not None:
        raise Refused(_BAD_REQUEST, problem)
    path = found["path"]
    return path if path.startswith(b"/") else b"/" + path


def _problem(request: Request) -> str | None:
    """Return what is wrong with a request's headers; None when nothing is."""
    if request.version not in ("1.1", "1.0"):
        return "unsupported HTTP version: use HTTP/1.1"
    return _problem_of_framing(request) or _problem_of_upgrade(request)


def _problem_of_framing(request: Request) -> str | None:
    by_key = request.by_key
    if b"transfer-encoding" in by_key:
        codings = headers.values(request.fields, b"transfer-encoding")
        if [coding.lower() for coding in codings] != [b"chunked"] or not request.is_http11:
            return "unsupported Transfer-Encoding: only chunked, once and in HTTP/1.1, is accepted"
    length = by_key.get(b"content-length")
    if length is not None and (not _LENGTH.fullmatch(length) or int(length) > headers.MAX_LENGTH):
        return "invalid Content-Length"
    if b"host" not in by_key:
        if request.is_http11:  # RFC 9112, section 3.2
            return "missing Host header"
    elif len(by_key) < len(request.fields) and len(headers.values(request.fields, b"host")) > 1:
        return "more than one Host header"
    return None


def _problem_of_upgrade(request: Request) -> str | None:
    if b"upgrade" not in request.by_key or not request.switches_protocol:
        return None
    if request.has_body:  # a server may take the body for the first bytes of the new protocol
        return "a request with a body cannot upgrade to another protocol"
    if request.is_websocket and not is_proper_handshake(
        headers.text(request.by_key, b"sec-websocket-key"),
        b",".join(headers.values(request.fields, b"sec-websocket-version")).decode("latin-1"),
    ):
        return "invalid WebSocket handshake: expected Sec-WebSocket-Version: 13 and a key of 16 bytes"
    return None


def is_proper_handshake(key: str, version: str) -> bool:
    """Return whether a WebSocket handshake has the one version that exists and a key of 16 bytes (RFC 6455, 4.2.1).

    The values are those of Sec-WebSocket-Key and Sec-WebSocket-Version, '' where they are missing.
    """
    try:
        decoded = base64.b64decode(key, validate=True)
    except ValueError:
        return False
    return len(decoded) == _KEY_BYTES and version == _WEBSOCKET_VERSION


def check_host(request: Request, is_known: Callable[[str], bool]) -> None:
    """Raise Refused for a request to a host name that is not this machine's.

    A page of another site can point its own name to 127.0.0.1 (DNS rebinding); servers such as Ollama refuse such
    names, but the proxy sends them a Host of their own.
    """
    host = request.by_key.get(b"host")
    if host is None:  # HTTP/1.0, which browsers do not send
        return
    name = _HOST.fullmatch(host.rstrip(b" \t"))
    if name is None or not is_known(name["name"].decode().lower().removesuffix(".")):
        raise Refused(_FORBIDDEN, "unknown Host: add it to the server's proxy.allowed_hosts to allow it")


def has_extra_spaces(received: bytes | bytearray, method: bytes, target: bytes) -> bool:
    """Return whether the parts of a request line are separated by more than one space (RFC 9112, section 3).

    llhttp accepts that. ``received`` contains the line, anywhere.
    """
    if b"  " not in received:
        return False
    for line in _LINE.finditer(received):  # what is before the method may be a body
        has_more = len(line[2]) + len(line[4]) > len("  ")
        if has_more and line["target"] == target and line["method"].endswith(method):
            return True
    return False


def refusal_of_unreadable(data: bytes, *, unknown_method: bool) -> Refused:
    """Return the refusal for bytes that llhttp rejected; ``data`` begins with the request."""
    if unknown_method and _TOKEN_AND_SPACE.match(data):
        return Refused(_NOT_IMPLEMENTED, "unknown request method")
    return Refused(_BAD_REQUEST, "malformed HTTP request")
