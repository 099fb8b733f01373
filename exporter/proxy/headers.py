"""Which header fields travel on, and which belong to one connection only (RFC 9110, section 7.6.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multidict import CIMultiDict, istr

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

_HOP_BY_HOP = tuple(
    map(
        istr,
        (
            *("Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization"),
            *("TE", "Trailer", "Transfer-Encoding", "Upgrade"),
        ),
    )
)
_CONNECTION = istr("Connection")
_HOST, _EXPECT = istr("Host"), istr("Expect")


def end_to_end(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """Return a copy without the fields of this hop: the known ones and those that Connection names."""
    kept = CIMultiDict(headers)
    for line in headers.getall(_CONNECTION, ()):
        for name in line.split(","):
            kept.popall(name.strip(), None)
    for name in _HOP_BY_HOP:
        if name in kept:
            kept.popall(name)
    return kept


def for_upstream(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """Return a request's fields as the upstream gets them.

    Host is the upstream's own, set by the client library; Expect was answered here.
    """
    kept = end_to_end(headers)
    kept.popall(_HOST, None)
    kept.popall(_EXPECT, None)
    return _spelt_alike(kept)


def _spelt_alike(headers: CIMultiDict[str]) -> CIMultiDict[str]:
    """Return fields of one name in one spelling: aiohttp's client would keep only the last of X-A and x-a."""
    spelling: dict[str, str] = {}
    fields = [(spelling.setdefault(name.lower(), name), value) for name, value in headers.items()]
    return headers if len(spelling) == len(fields) else CIMultiDict(fields)


def encodable(headers: CIMultiDictProxy[str]) -> bool:
    """Tell whether every field can be written again as it came; bytes that are not UTF-8 cannot."""
    try:
        for name, value in headers.items():
            name.encode()
            value.encode()
    except UnicodeEncodeError:
        return False
    return True


def tokens(headers: CIMultiDictProxy[str], name: str) -> set[str]:
    """Return the members of a field that is a list, in lower case."""
    return {token.strip().lower() for line in headers.getall(name, ()) for token in line.split(",")}
