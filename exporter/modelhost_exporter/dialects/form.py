"""Parse the short text fields of multipart forms (RFC 7578), in bounded time and memory."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_HEAD_BYTES = 16 * 1024
MAX_TAIL_BYTES = 4 * 1024
MAX_PARTS = 8
MAX_HEADER_LINES = 8
MAX_LINE_BYTES = 256

_DISPOSITION = b"content-disposition:"
_PARAMETER = re.compile(rb';[ \t]*([a-z]++)=(?:"([^"]*+)"|([^";]*+))', re.IGNORECASE)


def text_fields(body: bytes) -> dict[str, str]:
    """Return the fields of a form by name in lower case; a value longer than ``MAX_LINE_BYTES`` is left out.

    Only the first 16 kB and the last 4 kB are parsed, in which complete parts count: a field between two large files
    is not found.
    """
    if len(body) > MAX_HEAD_BYTES + MAX_TAIL_BYTES:
        body = body[:MAX_HEAD_BYTES] + body[-MAX_TAIL_BYTES:]
    return dict(_fields(body))


def _fields(body: bytes) -> Iterator[tuple[str, str]]:
    line_end = body.find(b"\r\n", 0, MAX_LINE_BYTES)
    if not body.startswith(b"--") or line_end < 0:
        return
    delimiter = b"\r\n" + body[:line_end].rstrip(b" \t")
    _, *parts = (b"\r\n" + body).split(delimiter, MAX_PARTS + 1)
    for part in parts[:-1]:  # the last one is the form's end, or was cut off
        header, _, value = part.partition(b"\r\n\r\n")
        name = _name(header)
        if name and len(value) <= MAX_LINE_BYTES:
            yield name, value.decode("utf-8", "replace")


def _name(header: bytes) -> str:
    """Return the name of a part's field; '' when its header does not have one."""
    for line in header.split(b"\r\n", MAX_HEADER_LINES + 1)[1 : MAX_HEADER_LINES + 1]:
        if len(line) <= MAX_LINE_BYTES and line[: len(_DISPOSITION)].lower() == _DISPOSITION:
            for parameter, quoted, bare in _PARAMETER.findall(line):
                if parameter.lower() == b"name":
                    name: bytes = quoted or bare
                    return name.decode("utf-8", "replace").strip().lower()
    return ""
