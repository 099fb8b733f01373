"""Split a byte stream into server-sent events.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelhost_exporter.dialects.contract import ParseError

EVENT_LIMIT = 1024 * 1024
_BOM = b"\xef\xbb\xbf"
_FIELDS = (b"event", b"id", b"retry", b"")


class EventStream:
    """A splitter of bytes into the data of events; keeps at most one event, of ``limit`` bytes.

    A longer one is dropped and counted; the stream goes on after the next blank line.
    """

    def __init__(self, limit: int = EVENT_LIMIT) -> None:
        self.errors: set[ParseError] = set()
        self.error_event = False
        """Whether an event had the name ``error``."""
        self._limit = limit
        self._line = bytearray()  # the beginning of a line that has not ended
        self._data: list[bytes] = []  # the data lines of an event that has not ended
        self._size = 0  # of the event's data lines
        self._skipping = False
        self._after_cr = False
        self._started = False
        self.is_between_events = False
        """Whether the bytes that follow begin an event, and are not the first of the stream."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data of the events that end in these bytes."""
        if self.is_between_events and _is_one_data_line(chunk) and len(chunk) <= self._limit:
            return [chunk[6:-2]]  # as nearly every read of a stream: half the price of the general way
        events = self._feed(chunk)
        self.is_between_events = self._started and not (self._line or self._data or self._skipping or self._after_cr)
        return events

    def _feed(self, chunk: bytes) -> list[bytes]:
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        lines = chunk.splitlines()
        if not lines:
            return []
        tail = b""
        if chunk.endswith((b"\n", b"\r")):
            self._after_cr = chunk.endswith(b"\r")
        else:
            tail = lines.pop()
        events: list[bytes] = []
        for line in lines:
            self._end_line(line, events)
        if tail:
            self._hold(tail)
        return events

    def flush(self) -> list[bytes]:
        """Return the data of the last event, at the end of a stream without a blank line after it."""
        events: list[bytes] = []
        self._end_line(b"", events)
        self._end_line(b"", events)
        return events

    def _hold(self, piece: bytes) -> None:
        if self._size + len(self._line) + len(piece) > self._limit:
            self._skip()
        if self._skipping:
            self._line[:] = b"."  # only whether the line is empty matters now
        else:
            self._line += piece

    def _skip(self) -> None:
        self.errors.add("too_long")
        self._skipping = True
        self._size = 0
        self._data.clear()
        self._line.clear()

    def _end_line(self, line: bytes, events: list[bytes]) -> None:
        if self._line:
            line = bytes(self._line + line)
            self._line.clear()
        if not self._started:
            self._started = True
            line = line.removeprefix(_BOM)
        if not line:
            if self._data:
                events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data.clear()
            self._skipping = False
            self._size = 0
        elif not self._skipping:
            self._field(line)

    def _field(self, line: bytes) -> None:
        if self._size + len(line) > self._limit:
            self._skip()
        elif line.startswith(b"data:"):
            self._size += len(line)
            self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
        else:
            self._other_field(line)

    def _other_field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"event":
            self.error_event = self.error_event or value.strip() == b"error"
        elif name == b"error":  # older llama.cpp versions send errors in a field of that name
            self.error_event = True
        elif name not in _FIELDS and name != b"data":
            self.errors.add("framing")


def _is_one_data_line(chunk: bytes) -> bool:
    """Return whether the bytes are ``data: ``, a line and the blank line that ends an event."""
    return (
        chunk.startswith(b"data: ")
        and chunk.endswith(b"\n\n")
        and chunk.find(b"\n") == len(chunk) - 2
        and b"\r" not in chunk
    )
