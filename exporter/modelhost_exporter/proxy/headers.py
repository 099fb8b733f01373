"""Which header fields travel on, and which belong to one connection only (RFC 9110, section 7.6.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import hdrs
from multidict import CIMultiDict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from multidict import CIMultiDictProxy

Field = tuple[bytes, bytes]
"""Name and value as they came."""

HOP_BY_HOP = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization"),
        *(b"te", b"trailer", b"transfer-encoding", b"upgrade"),
    }
)
CONTENT_LENGTH, ACCEPT_ENCODING = b"content-length", b"accept-encoding"
# the upstream has a Host of its own, and Expect was answered here
_TO_CLIENT, _TO_UPSTREAM = HOP_BY_HOP, HOP_BY_HOP | {b"host", b"expect"}


def for_client(fields: Iterable[Field], headers: CIMultiDictProxy[str]) -> list[Field]:
    """Return a reply's fields as the client gets them; ``headers`` are the same."""
    return _without(_TO_CLIENT, fields, headers)


def for_upstream(fields: Iterable[Field], headers: CIMultiDictProxy[str]) -> list[Field]:
    """Return a request's fields as the upstream gets them, but for its Host; ``headers`` are the same."""
    return _without(_TO_UPSTREAM, fields, headers)


def _without(dropped: frozenset[bytes], fields: Iterable[Field], headers: CIMultiDictProxy[str]) -> list[Field]:
    if hdrs.CONNECTION in headers:  # it names further ones; without its length a body would be read as the next message
        named = (token.encode("utf-8", "surrogateescape") for token in tokens(headers, hdrs.CONNECTION))
        dropped = dropped.union(named) - {CONTENT_LENGTH}
    return [field for field in fields if field[0].lower() not in dropped]


def written(first_line: bytes, fields: Iterable[Field]) -> bytes:
    """Return a message's head."""
    return b"\r\n".join((first_line, *map(b": ".join, fields), b"\r\n"))


def as_multidict(fields: Iterable[Field]) -> CIMultiDict[str]:
    """Return fields as aiohttp's client takes them: of X-A and x-a it would keep only the last, so in one spelling."""
    spelling: dict[bytes, str] = {}
    return CIMultiDict((spelling.setdefault(name.lower(), name.decode()), value.decode()) for name, value in fields)


def encodable(fields: Iterable[Field]) -> bool:
    """Tell whether every field is UTF-8."""
    try:
        b"".join(map(b"".join, fields)).decode()
    except UnicodeDecodeError:
        return False
    return True


def tokens(headers: CIMultiDictProxy[str], name: str) -> set[str]:
    """Return the members of a field that is a list, in lower case."""
    return {token.strip().lower() for line in headers.getall(name, ()) for token in line.split(",")}
