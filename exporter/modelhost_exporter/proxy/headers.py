"""Headers of requests and responses as bytes, and which of them a proxy forwards (RFC 9110, section 7.6.1)."""

from __future__ import annotations

from email.utils import formatdate
from functools import lru_cache
from time import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


class Field(NamedTuple):
    """One header field as it was received; ``key`` is its name in lower case."""

    key: bytes
    name: bytes
    value: bytes


HOP_BY_HOP = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization"),
        *(b"te", b"trailer", b"transfer-encoding", b"upgrade"),
    }
)
_TO_UPSTREAM = HOP_BY_HOP | {b"host", b"expect"}
"""The upstream has a Host of its own, and Expect is answered by the proxy."""
_FRAMING = frozenset({b"content-length"})
_TEXT = "latin-1"


def values(fields: Iterable[Field], key: bytes) -> list[bytes]:
    """Return the values of the fields with this name (lower case), in order."""
    return [field.value for field in fields if field.key == key]


def text(fields: Iterable[Field], key: bytes) -> str:
    """Return the value of the first field with this name as text; '' when there is none."""
    for field in fields:
        if field.key == key:
            return field.value.decode(_TEXT)
    return ""


def tokens(fields: Iterable[Field], key: bytes) -> set[bytes]:
    """Return the members of a field that is a comma-separated list, in lower case."""
    return {token.strip().lower() for value in values(fields, key) for token in value.split(b",")}


def to_upstream(fields: Collection[Field]) -> list[Field]:
    """Return the fields of a request that the upstream receives, without its Host."""
    return _without(_TO_UPSTREAM, fields)


def to_client(fields: Collection[Field]) -> list[Field]:
    """Return the fields of a response that the client receives."""
    return _without(HOP_BY_HOP, fields)


def _without(dropped: frozenset[bytes], fields: Collection[Field]) -> list[Field]:
    named = tokens(fields, b"connection")
    if named:  # Content-Length stays whatever Connection lists: without it a body would be read as the next message
        dropped = dropped.union(named) - _FRAMING
    return [field for field in fields if field.key not in dropped]


def serialize(first_line: bytes, fields: Iterable[Field], *more: bytes) -> bytes:
    """Return a message's head; ``more`` are whole lines that follow the fields."""
    return b"\r\n".join((first_line, *(b"%b: %b" % field[1:] for field in fields), *more, b"\r\n"))


def date_line() -> bytes:
    """Return a Date field for now."""
    return _date_line(int(time()))


@lru_cache(maxsize=1)
def _date_line(seconds: int) -> bytes:
    return f"Date: {formatdate(seconds, usegmt=True)}".encode()
