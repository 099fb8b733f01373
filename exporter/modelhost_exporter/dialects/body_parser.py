"""Parse a copy of a response body: decompress it, feed it to a dialect's parser in parts, and never raise."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from modelhost_exporter.dialects.contract import NOTHING, Usage
from modelhost_exporter.dialects.decompress import CannotDecompress, decompressor
from modelhost_exporter.dialects.replies import StreamReply

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelhost_exporter.dialects.contract import Progress, Reply
    from modelhost_exporter.dialects.decompress import Decompress

log = logging.getLogger(__name__)

_PART_BYTES = 8192
"""What is parsed of a stream at once: lines of two bytes each take 3 µs a line."""


class BodyParser:
    """A parser of one response body; after its first failure it ignores the rest and reports the reason."""

    def __init__(self, reply: Reply, content_encoding: str, on_error: Callable[[str], None]) -> None:
        """Prepare; ``on_error`` is called with the reason of each parse error."""
        self._reply = reply
        self._on_error = on_error
        self._decompress: Decompress | None = None
        self._usage: Usage | None = None
        self._part_bytes = _PART_BYTES if isinstance(reply, StreamReply) else None
        self._unread = b""
        self._position = 0
        self.is_behind = False
        """Whether there is more to parse of the bytes that were fed last."""
        self.is_blind = False
        """Whether the body could not be parsed to its end, for its encoding or a fault of the parser."""
        if content_encoding:
            try:
                self._decompress = decompressor(content_encoding)
            except CannotDecompress:
                self._drop("encoding")

    @property
    def model(self) -> str | None:
        """The model that the response names, once it was parsed."""
        return self._reply.model

    def feed(self, piece: bytes) -> Progress:
        """Parse a first part of the next bytes, as they were received."""
        if self.is_blind:
            return NOTHING
        if self._decompress is None and len(piece) <= _PART_BYTES:
            return self._parse(piece)
        try:
            self._unread, self._position = piece if self._decompress is None else self._decompress(piece), 0
        except CannotDecompress:
            self._drop("encoding")
        except Exception:
            log.exception("the parser of a response failed")
            self._drop("internal")
        return self.parse_next()

    def parse_next(self) -> Progress:
        """Parse the next part of the bytes that were fed last."""
        data, start = self._unread, self._position
        if self._part_bytes is not None and len(data) - start > self._part_bytes:
            self._position = start + self._part_bytes
            part = data[start : self._position]
            self.is_behind = True
        else:
            self._unread, self._position, self.is_behind = b"", 0, False
            part = data[start:] if start else data
        return self._parse(part)

    def _parse(self, part: bytes) -> Progress:
        try:
            return self._reply.feed(part)
        except Exception:
            log.exception("the parser of a response failed")
            self._drop("internal")
        return NOTHING

    def stop(self) -> None:
        """Ignore what is not parsed yet."""
        self._drop("too_long")

    def finish(self, *, cut: bool = False) -> Usage:
        """Return the result, the same each time; ``cut`` when the response was cut off."""
        if self._usage is None:
            self._usage = self._finish(cut=cut)
        return self._usage

    def _finish(self, *, cut: bool) -> Usage:
        try:
            usage = self._reply.finish(cut=cut)
        except Exception:
            log.exception("the parser of a response failed")
            self._drop("internal")
            return Usage()
        for reason in usage.parse_errors:
            self._on_error(reason)
        return usage

    def _drop(self, reason: str) -> None:
        self.is_blind = True
        self._unread, self._position, self.is_behind = b"", 0, False
        self._on_error(reason)
