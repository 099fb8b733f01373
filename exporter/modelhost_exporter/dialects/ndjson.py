"""Split a byte stream into lines of JSON (NDJSON)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelhost_exporter.dialects.contract import ParseError

LINE_LIMIT = 1024 * 1024


class Lines:
    """A splitter of bytes into non-blank lines; keeps at most one line, of ``limit`` bytes."""

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self.errors: set[ParseError] = set()
        self._limit = limit
        self._line = bytearray()
        self._too_long = False

    error_event = False
    is_between_events = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that end in these bytes."""
        *ended, tail = chunk.split(b"\n")
        lines: list[bytes] = []
        for piece in ended:
            if piece or self._line:
                self._hold(piece)
                lines += self.flush()
            self._too_long = False
        if tail:
            self._hold(tail)
        return lines

    def flush(self) -> list[bytes]:
        """Return the last line, at the end of a stream that does not end with a line break."""
        line = bytes(self._line).strip()
        self._line.clear()
        self._too_long = False
        return [line] if line else []

    def _hold(self, piece: bytes) -> None:
        if self._too_long or len(self._line) + len(piece) > self._limit:
            self.errors.add("too_long")
            self._too_long = True
            self._line.clear()
        else:
            self._line += piece
