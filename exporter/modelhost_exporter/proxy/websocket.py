"""Relay a WebSocket: after the upstream's 101, bytes pass both ways as they are received."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelhost_exporter.proxy.downstream import DownstreamConnection
    from modelhost_exporter.proxy.upstream import UpstreamConnection

_SLICE_BYTES = 1 << 14
"""What is searched for long messages in one turn of the event loop: a frame may be as short as two bytes."""
_TOO_BIG = b"\x88\x02\x03\xf1"  # a close frame with code 1009
_TOO_BIG_MASKED = b"\x88\x82\0\0\0\0\x03\xf1"
_MASKED, _LENGTH, _LENGTH_OF_16, _LENGTH_OF_64 = 0x80, 0x7F, 126, 127
_FIN, _OPCODE, _CONTROL = 0x80, 0x0F, 8


class Side(Protocol):
    """A connection to a client or an upstream."""

    is_writable: bool

    def write(self, data: bytes) -> None:
        """Send bytes."""
        ...

    def pause_reading(self) -> None:
        """Stop reading."""
        ...

    def resume_reading(self) -> None:
        """Go on reading."""
        ...


class WebSocketRelay:
    """Both ways of one WebSocket, of which nothing is held back, parsed or decompressed.

    With a limit, frame headers are read: a message that is longer ends both connections with close code 1009.
    """

    def __init__(
        self,
        client: DownstreamConnection,
        upstream: UpstreamConnection,
        max_message_bytes: int | None,
        on_end: Callable[[], None],
    ) -> None:
        """Begin; ``on_end`` is called when a message was too long."""
        self._client = client
        self._upstream = upstream
        self._on_end = on_end
        self._to_upstream = _Way(client, upstream, max_message_bytes, self._end)
        self._to_client = _Way(upstream, client, max_message_bytes, self._end)

    def on_client_data(self, data: bytes) -> None:
        """Forward bytes of the client."""
        self._to_upstream.feed(data)

    def on_upstream_data(self, data: bytes) -> None:
        """Forward bytes of the upstream."""
        self._to_client.feed(data)

    def on_client_writable(self, *, writable: bool) -> None:
        """Read from the upstream as fast as the client reads."""
        self._to_client.on_writable(writable=writable)

    def on_upstream_writable(self, *, writable: bool) -> None:
        """Read from the client as fast as the upstream reads."""
        self._to_upstream.on_writable(writable=writable)

    def close(self) -> None:
        """Forward nothing more."""
        self._to_upstream.close()
        self._to_client.close()

    def _end(self) -> None:
        """End both connections for a message that is too long; a close frame goes where no frame is incomplete."""
        if self._to_client.is_at_boundary:
            self._client.write(_TOO_BIG)
        if self._to_upstream.is_at_boundary:
            self._upstream.write(_TOO_BIG_MASKED)
        self.close()
        self._on_end()


class _Way:
    """Bytes of one direction.

    Its source is not read while slices of the last read wait, or while the target reads too slowly.
    """

    def __init__(self, source: Side, target: Side, limit: int | None, on_too_long: Callable[[], None]) -> None:
        self._source = source
        self._write = target.write
        self._is_writable = target.is_writable
        self._is_paused = False
        self._limit = limit
        self._on_too_long = on_too_long
        self._frames = _Frames(limit) if limit is not None else None
        self._slices: deque[bytes] = deque()
        self._closed = False

    @property
    def is_at_boundary(self) -> bool:
        """Whether the last frame that was forwarded was forwarded whole."""
        return self._frames is not None and self._frames.is_at_boundary

    def close(self) -> None:
        """Forward nothing more."""
        self._closed = True
        self._slices.clear()

    def on_writable(self, *, writable: bool) -> None:
        """Process that the target reads too slowly, or fast enough again."""
        self._is_writable = writable
        self._pause_or_resume()

    def _pause_or_resume(self) -> None:
        pause = bool(self._slices) or not self._is_writable
        if self._closed or pause == self._is_paused:
            return
        self._is_paused = pause
        (self._source.pause_reading if pause else self._source.resume_reading)()

    def feed(self, data: bytes) -> None:
        """Forward bytes."""
        if self._closed:
            return
        if self._frames is None:
            self._write(data)
            return
        waiting = bool(self._slices)
        self._slices += (data[start : start + _SLICE_BYTES] for start in range(0, len(data), _SLICE_BYTES))
        if not waiting:
            self._next()

    def _next(self) -> None:
        """Forward a slice, and the next one in the next turn of the event loop."""
        if self._closed or not self._slices or self._frames is None:
            return
        passed, is_too_long = self._frames.feed(self._slices.popleft())
        if passed:
            self._write(passed)
        if is_too_long:
            self._on_too_long()
        elif self._slices:
            asyncio.get_running_loop().call_soon(self._next)
        self._pause_or_resume()


class _Frames:
    """A reader of frame headers (RFC 6455, section 5.2), split anywhere, which sums up the length of messages.

    A header is held back until it is complete, so that nothing of a frame that is too much is forwarded.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._header = bytearray()
        self._payload = 0  # of the frame that is passing, what is still to come
        self._message = 0  # payload of the message so far

    @property
    def is_at_boundary(self) -> bool:
        """Whether no frame was forwarded in part."""
        return not self._payload

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Return the bytes that may pass now, and whether the frame after them makes a message too long."""
        if self._header:
            data = bytes(self._header) + data
            self._header.clear()
        position, size = 0, len(data)
        while position < size:
            if self._payload:
                step = min(self._payload, size - position)
                self._payload -= step
                position += step
                continue
            start = position
            while position < size and not self._is_header_complete():
                self._header.append(data[position])
                position += 1
            if self._is_header_complete() and self._begin_frame() > self._limit:
                self._payload = 0
                return data[:start], True
        return data[: size - len(self._header)], False

    def _is_header_complete(self) -> bool:
        header = self._header
        if len(header) < 2:  # noqa: PLR2004 - opcode and length
            return False
        length = header[1] & _LENGTH
        extended = {_LENGTH_OF_16: 2, _LENGTH_OF_64: 8}.get(length, 0)
        return len(header) == 2 + extended + (4 if header[1] & _MASKED else 0)

    def _begin_frame(self) -> int:
        """Read a header and return the length of its message so far."""
        header = self._header
        length = header[1] & _LENGTH
        if length >= _LENGTH_OF_16:
            length = int.from_bytes(header[2 : 4 if length == _LENGTH_OF_16 else 10])
        is_control, is_final = header[0] & _OPCODE >= _CONTROL, header[0] & _FIN
        header.clear()
        self._payload = length
        total = length if is_control else self._message + length
        if not is_control:
            self._message = 0 if is_final else total
        return total
