"""A model server with minimal cost: chat completions from fixed bytes, whole or as a stream at a given rate.

``python -m benchmarks.upstream PORT``. A request's ``max_tokens`` is the number of frames of a stream, ``rate`` the
number of frames a second. Each frame's token is the monotonic time at which it was sent, from which the reader computes
its age.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from typing import cast

from benchmarks.loops import loop_factory

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_MAX_BODY = 1 << 16
"""A longer body is read and discarded."""
_DEFAULT_RATE = 20.0
_USAGE = (
    b'"usage":{"prompt_tokens":58,"completion_tokens":%d,"total_tokens":%d,'
    b'"prompt_tokens_details":{"cached_tokens":57}}'
)
_TIMINGS = (
    b'"timings":{"cache_n":57,"prompt_n":1,"prompt_ms":23.918,"prompt_per_token_ms":23.918,"prompt_per_second":41.81,'
    b'"predicted_n":%d,"predicted_ms":1190.5,"predicted_per_token_ms":37.2,"predicted_per_second":26.88}'
)
_ANSWER = b"Prometheus scrapes every target at its interval and stores what it finds. " * 3
_WHOLE = (
    b'{"id":"chatcmpl-%d","object":"chat.completion","created":1760000000,"model":"%s","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"' + _ANSWER + b'"},"finish_reason":"stop"}],' + _USAGE + b"}"
)
_FRAME = (
    b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":" %d"}}],"created":1760000000,'
    b'"id":"chatcmpl-1","model":"%s","system_fingerprint":"b9102-8af2cb5","object":"chat.completion.chunk"}\n\n'
)
_LAST = (
    b'data: {"choices":[{"finish_reason":"stop","index":0,"delta":{"content":" %d"}}],'
    b'"created":1760000000,"id":"chatcmpl-1","model":"%s","object":"chat.completion.chunk",'
    + (_USAGE + b"," + _TIMINGS + b"}\n\ndata: [DONE]\n\n")
)
_HEAD = b"HTTP/1.1 200 OK\r\nServer: upstream\r\nContent-Type: %s\r\n%s\r\n\r\n"


class ModelServer(asyncio.Protocol):
    """A connection, for one request at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start."""
        self._transport = cast("asyncio.Transport", transport)
        self._head = b""
        self._kept = b""
        self._left = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_lost(self, _error: Exception | None) -> None:
        """Stop a running stream."""
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Respond when the last byte of the body has arrived."""
        if not self._left:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._head = self._kept = b""
            length = _LENGTH.search(head)
            self._left = int(length[1]) if length else 0
        self._left -= len(data)
        if len(self._kept) < _MAX_BODY:
            self._kept += data
        if not self._left:
            self._answer(json.loads(self._kept) if len(self._kept) < _MAX_BODY else {})

    def _answer(self, asked: dict[str, object]) -> None:
        model = str(asked.get("model", "none")).encode()
        if asked.get("stream"):
            _Stream(self, model, int(str(asked["max_tokens"])), 1 / float(str(asked.get("rate", _DEFAULT_RATE))))
            return
        body = _WHOLE % (time.monotonic_ns(), model, 32, 90)
        self.write(_HEAD % (b"application/json", b"Content-Length: %d" % len(body)) + body)

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self._transport.write(data)

    def later(self, at: float, step: _Stream) -> None:
        """Call a stream's next step at a time of the loop's clock."""
        self._timer = asyncio.get_running_loop().call_at(at, step)


class _Stream:
    """A streamed response; called once for each frame, on a fixed schedule."""

    def __init__(self, server: ModelServer, model: bytes, frames: int, interval: float) -> None:
        self._server = server
        self._model = model
        self._frames = frames
        self._interval = interval
        self._sent = 0
        self._began = asyncio.get_running_loop().time()
        server.write(_HEAD % (b"text/event-stream", b"Transfer-Encoding: chunked"))
        server.later(self._began + interval, self)

    def __call__(self) -> None:
        self._sent += 1
        if self._sent < self._frames:
            frame = _FRAME % (time.monotonic_ns(), self._model)
            self._server.later(self._began + (self._sent + 1) * self._interval, self)
        else:
            frame = _LAST % (time.monotonic_ns(), self._model, self._sent, 58 + self._sent, self._sent)
        end = b"0\r\n\r\n" if self._sent == self._frames else b""
        self._server.write(b"%x\r\n%s\r\n%s" % (len(frame), frame, end))


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(ModelServer, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve(int(sys.argv[1])))
