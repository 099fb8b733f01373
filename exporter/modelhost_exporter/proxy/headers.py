"""Headers of requests and responses as bytes, and which of them a proxy forwards (RFC 9110, section 7.6.1)."""

from __future__ import annotations

from email.utils import formatdate
from functools import lru_cache, partial
from time import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping


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
MAX_LENGTH = (1 << 63) - 1
"""The largest length of a body that common parsers accept."""
_FRAMING = frozenset({b"content-length"})
_TEXT = "latin-1"


make_field = partial(tuple.__new__, Field)
"""Make a Field of a tuple, for half of the price of calling it: one is made for each field of each message."""


def values(fields: Iterable[Field], key: bytes) -> list[bytes]:
    """Return the values of the fields with this name (lower case), in order."""
    return [field.value for field in fields if field.key == key]


def text(by_key: Mapping[bytes, bytes], key: bytes) -> str:
    """Return the value of a field as text; '' when there is none."""
    return by_key.get(key, b"").decode(_TEXT)


def index(fields: Iterable[Field]) -> dict[bytes, bytes]:
    """Return the last value of each field, by its name in lower case."""
    return {key: value for key, _, value in fields}


def tokens(fields: Iterable[Field], key: bytes) -> set[bytes]:
    """Return the members of a field that is a comma-separated list, in lower case."""
    return {token.strip().lower() for value in values(fields, key) for token in value.split(b",")}


def to_upstream(fields: Collection[Field], by_key: Mapping[bytes, bytes]) -> list[Field]:
    """Return the fields of a request that the upstream receives, without its Host; ``by_key`` is their index."""
    return _without(_TO_UPSTREAM, fields, by_key)


def to_client(fields: Collection[Field], by_key: Mapping[bytes, bytes]) -> list[Field]:
    """Return the fields of a response that the client receives; ``by_key`` is their index."""
    return _without(HOP_BY_HOP, fields, by_key)


def _without(dropped: frozenset[bytes], fields: Collection[Field], by_key: Mapping[bytes, bytes]) -> list[Field]:
    if (
        b"connection" in by_key
    ):  # Content-Length stays whatever Connection lists: without it a body would be read as the next message
        dropped = dropped.union(tokens(fields, b"connection")) - _FRAMING
    return [field for field in fields if field.key not in dropped]


def serialize(first_line: bytes, fields: Iterable[Field], *more: bytes) -> bytes:
    """Return a message's head; ``more`` are whole lines that follow the fields."""
    lines = [name + b": " + value for _, name, value in fields]
    return b"\r\n".join((first_line, *lines, *more, b"\r\n"))


def date_line() -> bytes:
    """Return a Date field for now."""
    return _date_line(int(time()))


@lru_cache(maxsize=1)
def _date_line(seconds: int) -> bytes:
    return f"Date: {formatdate(seconds, usegmt=True)}".encode()
