"""A reply that is one JSON document: kept up to a limit, and beyond it only its two ends."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from exporter.wire.values import loads

if TYPE_CHECKING:
    from collections.abc import Sequence

WHOLE_LIMIT = 512 * 1024
_END = 16 * 1024
_CLOSING = {b"{": b"}", b"[": b"]"}

_decoder = json.JSONDecoder()


class WholeBody:
    """Collects a body; holds at most ``limit`` bytes and one chunk."""

    def __init__(self, limit: int = WHOLE_LIMIT) -> None:
        self.too_long = False
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._head = b""

    def add(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._parts.append(chunk)
        self._size += len(chunk)
        if self._size > self._limit:
            self._shorten()

    def _shorten(self) -> None:
        body = b"".join(self._parts)
        if not self.too_long:
            self.too_long = True
            self._head = body[:_END]
        self._parts = [body[-_END:]]
        self._size = self._limit - _END  # the next shortening is due after another _END bytes

    @property
    def cut(self) -> bool:
        """Say whether the bytes begin like JSON and stop in the middle."""
        kept = b"".join(self._parts)
        start = (self._head or kept).lstrip()[:1]
        return not start or (start in _CLOSING and not kept.rstrip().endswith(_CLOSING[start]))

    def document(self) -> object:
        """Parse the whole body; ValueError when it is not JSON."""
        return loads(b"".join(self._parts))

    def excerpt(self, keys: Sequence[str]) -> dict[str, object]:
        """Return the values of these keys as far as they stand near the ends of a body that was too long to keep."""
        ends = [part.decode("utf-8", "replace") for part in (self._head, b"".join(self._parts))]
        found = {}
        for end in ends:
            for key in keys:
                found.update(_values_of(key, end))
        return found


def _values_of(key: str, text: str) -> dict[str, object]:
    """Return the last value that stands behind a key, if one does.

    Quotes inside JSON strings are escaped, so the pattern cannot match what a user or a model wrote.
    """
    found: dict[str, object] = {}
    for match in re.finditer(rf'"{key}"\s*:\s*', text):
        try:
            found[key] = _decoder.raw_decode(text, match.end())[0]
        except (ValueError, RecursionError):  # cut off
            continue
    return found
