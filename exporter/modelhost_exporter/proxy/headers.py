"""Headers of requests and responses as bytes, and which of them a proxy forwards (RFC 9110, section 7.6.1)."""

from __future__ import annotations

import re
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
NOT_FORWARDED = HOP_BY_HOP | {b"host", b"expect"}
"""Fields of a request that no upstream receives: it has a Host of its own, and Expect is answered by the proxy."""
MAX_LENGTH = (1 << 63) - 1
"""The largest length of a body that common parsers accept."""
_FRAMING = frozenset({b"content-length"})
_OF_THE_HANDSHAKE = {
    *(b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-accept", b"sec-websocket-extensions"),
}
RESERVED = NOT_FORWARDED | _FRAMING | _OF_THE_HANDSHAKE
"""Fields of a request that only the proxy or its client can give: they frame it, or belong to one connection."""
_TEXT = "latin-1"
_END = b"\r\n"
"""The line that ends a head."""


make_field = partial(tuple.__new__, Field)
"""Make a Field of a tuple, for half of the price of calling it: one is made for each field of each message."""


def configured(given: Mapping[str, str]) -> tuple[Field, ...]:
    """Return the fields of a configuration, whose names and values are ASCII."""
    return tuple(Field(name.lower().encode(), name.encode(), value.encode()) for name, value in given.items())


def values(fields: Iterable[Field], key: bytes) -> list[bytes]:
    """Return the values of the fields with this name (lower case), in order."""
    return [field.value for field in fields if field.key == key]


def text(by_key: Mapping[bytes, bytes], key: bytes) -> str:
    """Return the value of a field as text; '' when there is none."""
    return by_key.get(key, b"").decode(_TEXT)


def shown(value: bytes, max_length: int) -> str:
    """Return an untrusted value for display: as UTF-8, truncated, with ``?`` for what is not printable."""
    decoded = value[: 4 * max_length].decode("utf-8", "replace").strip()
    return "".join(each if each.isprintable() else "?" for each in decoded[:max_length])


def index(fields: Iterable[Field]) -> dict[bytes, bytes]:
    """Return the last value of each field, by its name in lower case."""
    return {key: value for key, _, value in fields}


def tokens(fields: Iterable[Field], key: bytes) -> set[bytes]:
    """Return the members of a field that is a comma-separated list, in lower case."""
    return {token.strip().lower() for value in values(fields, key) for token in value.split(b",")}


def to_upstream(
    fields: Collection[Field], by_key: Mapping[bytes, bytes], dropped: frozenset[bytes] = NOT_FORWARDED
) -> list[Field]:
    """Return the fields of a request that the upstream receives, without its Host; ``by_key`` is their index."""
    return _without(dropped, fields, by_key)


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


_MAX_TEMPLATE_BYTES = 4096
_LENGTH_VALUE = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: ?([0-9]{1,15})(?=\r\n)")


class HeadTemplate(NamedTuple):
    """A head around the value of its Content-Length, to detect or write the same head with another length.

    Clients and servers repeat their lines on a connection. A head that was parsed once needs no parser as long as only
    the length differs, since llhttp is in the same state at the beginning of each message.
    """

    before: bytes
    after: bytes

    @classmethod
    def of(cls, head: bytes, by_key: Mapping[bytes, bytes], field_count: int) -> HeadTemplate | None:
        """Return the template of a head without repeated fields, framed by a length; None for any other."""
        if len(head) > _MAX_TEMPLATE_BYTES or len(by_key) != field_count or b"transfer-encoding" in by_key:
            return None
        found = _LENGTH_VALUE.search(head)
        return None if found is None else cls(head[: found.start(1)], head[found.end(1) :])

    def body(self, data: bytes) -> bytes | None:
        """Return the body in data that is this head and a whole body, whose length must be written canonically."""
        before, after = self
        start = len(before)
        end = data.find(b"\r", start, start + 16)
        if end < 0 or not data.startswith(before) or not data.startswith(after, end):
            return None
        body = data[end + len(after) :]
        return body if data[start:end] == b"%d" % len(body) else None

    def fill(self, length: bytes) -> bytes:
        """Return the head with a length."""
        return self.before + length + self.after


def with_length(fields: Iterable[Field], length: bytes) -> list[Field]:
    """Return the fields with another Content-Length."""
    return [Field(field.key, field.name, length) if field.key == b"content-length" else field for field in fields]


def with_date(head: bytes) -> bytes:
    """Return a response's head with a Date field for now (RFC 9110, section 6.6.1)."""
    return head[: -len(_END)] + _date_line(int(time()))


@lru_cache(maxsize=1)
def _date_line(seconds: int) -> bytes:
    return f"Date: {formatdate(seconds, usegmt=True)}\r\n\r\n".encode()
