"""A response that is one JSON document: kept up to a limit; of a longer one only both ends."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from modelhost_exporter.untrusted_json import parse_json

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

WHOLE_LIMIT = 512 * 1024
_END = 16 * 1024
_CLOSING = {b"{": b"}", b"[": b"]"}

_MEMBER = re.compile(r'"([a-z_]{1,32})"\s*+:\s*+')
_decoder = json.JSONDecoder()


class WholeBody:
    """Collects a body; holds at most ``limit`` bytes and one chunk."""

    def __init__(self, limit: int = WHOLE_LIMIT) -> None:
        self.too_long = False
        self._limit = limit
        self._kept = bytearray()
        self._head = b""

    def add(self, chunk: bytes) -> None:
        """Append the next bytes."""
        self._kept += chunk
        if len(self._kept) > self._limit:
            self._shorten()

    def _shorten(self) -> None:
        if not self.too_long:
            self.too_long = True
            self._head = bytes(self._kept[:_END])
        del self._kept[:-_END]
        self._limit = 2 * _END  # the next shortening is due after another _END bytes

    @property
    def cut(self) -> bool:
        """Whether the bytes begin like JSON and are incomplete."""
        start = (self._head or self._kept).lstrip()[:1]
        closing = _CLOSING.get(bytes(start))
        return not start or (closing is not None and not self._kept.rstrip().endswith(closing))

    def document(self) -> object:
        """Parse the whole body; ValueError when it is not JSON."""
        return parse_json(bytes(self._kept))

    def excerpt(self, keys: Collection[str]) -> dict[str, object]:
        """Return the values of these keys as far as they stand near the ends of a body that was too long to keep.

        Of several values of one key the last counts.
        """
        found: dict[str, object] = {}
        for end in (self._head, self._kept):
            found.update(_members(keys, end.decode("utf-8", "replace")))
        return found


def _members(keys: Collection[str], text: str) -> Iterator[tuple[str, object]]:
    """Yield the members with these keys, but for those inside the value of one; until one has no end.

    Quotes inside JSON strings are escaped, so the pattern cannot match what a user or a model wrote. No value is parsed
    twice, so that the time is linear.
    """
    position = 0
    while found := _MEMBER.search(text, position):
        position = found.end()
        if found[1] in keys:
            try:
                value, position = _decoder.raw_decode(text, position)
            except (ValueError, RecursionError):  # cut off here: nothing follows
                return
            yield found[1], value
