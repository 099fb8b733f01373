"""Clients of a model server over raw connections, cheap enough not to distort the measurement."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import TYPE_CHECKING, NamedTuple, cast
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence

PATH = "/v1/chat/completions"
_PIECE = bytes(1 << 20)
_PROMPT = "Explain in one paragraph what a Prometheus exporter does and why it should be cheap. " * 4
_HEAD = (
    "POST {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: load\r\nAccept: */*\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n"
)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_SENT = re.compile(rb'"content":" (\d+)"')
_CHUNKED_END = b"0\r\n\r\n"
_FRAME = b"data: {"


class Chunk(NamedTuple):
    """Times at which a chunk of a stream was sent by the upstream and received, in seconds of the monotonic clock."""

    sent: float
    arrived: float


def question(url: str, model: str, frames: int = 0, rate: float = 20.0) -> bytes:
    """Return the bytes of a request; with ``frames`` for a stream of that many, ``rate`` a second."""
    asked: dict[str, object] = {"model": model, "messages": [{"role": "user", "content": _PROMPT}]}
    if frames:
        asked |= {"stream": True, "max_tokens": frames, "rate": rate}
    body = json.dumps(asked)
    return (_HEAD.format(PATH, urlsplit(url).netloc, "application/json", len(body)) + body).encode()


class Connection(asyncio.Protocol):
    """A persistent connection, for one request at a time."""

    def __init__(self) -> None:
        self.frames = 0
        """Number of received stream frames."""
        self.chunks: list[Chunk] | None = None
        """Times of chunks; recorded if this is a list."""
        self._done: asyncio.Future[None] | None = None

    @classmethod
    async def to(cls, url: str) -> Connection:
        """Connect."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, *_address(url))
        return connection

    async def ask(self, request: bytes) -> None:
        """Send a request and wait for the last byte of the response."""
        self._done = asyncio.get_running_loop().create_future()
        self._head: bytes | None = b""
        self._tail = b""
        self._left = -1
        self._transport.write(request)
        await self._done

    def close(self) -> None:
        """Close the connection."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Fail the request in progress."""
        if self._done is not None and not self._done.done():
            self._done.set_exception(error or ConnectionResetError("closed in the middle of a reply"))

    def data_received(self, data: bytes) -> None:
        """Parse as much as is needed to find the end of the response."""
        if self._head is not None:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._head = None
            if b" 200 " not in head[:16]:
                self._fail(head + data)
                return
            length = _LENGTH.search(head)
            self._left = int(length[1]) if length else -1
        if self._left >= 0:
            self._left -= len(data)
            over = not self._left
        else:
            over = self._stream(data)
        if over and self._done is not None:
            self._done.set_result(None)

    def _stream(self, data: bytes) -> bool:
        """Count frames, including one split across two chunks; return whether the stream is over."""
        if self.chunks is not None:
            now = time.monotonic()
            self.chunks += [Chunk(int(sent) / 1e9, now) for sent in _SENT.findall(data)]
        data = self._tail + data
        self.frames += data.count(_FRAME)
        self._tail = data[1 - len(_FRAME) :]
        return data.endswith(_CHUNKED_END)

    def _fail(self, reply: bytes) -> None:
        if self._done is not None:
            self._done.set_exception(RuntimeError(f"not answered with 200: {reply[:300]!r}"))


async def latencies(url: str, model: str, seconds: float) -> list[float]:
    """Send requests one after the other on one connection for a time; return the seconds of each."""
    connection = await Connection.to(url)
    request = question(url, model)
    taken = []
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        await connection.ask(request)
        taken.append(time.perf_counter() - began)
    connection.close()
    return taken


async def throughput(url: str, model: str, clients: int, seconds: float) -> float:
    """Return the requests per second of a number of clients."""
    request = question(url, model)
    connections = [await Connection.to(url) for _ in range(clients)]
    began = time.perf_counter()
    done = sum(await asyncio.gather(*(_until(began + seconds, c, request) for c in connections)))
    return done / (time.perf_counter() - began)


async def requests(url: str, model: str, clients: int, count: int) -> None:
    """Send a number of requests from a number of clients."""
    request = question(url, model)

    async def some() -> None:
        connection = await Connection.to(url)
        for _ in range(count // clients):
            await connection.ask(request)
        connection.close()

    await asyncio.gather(*(some() for _ in range(clients)))


async def streams(url: str, requests: Sequence[bytes], rate: float, chunks: list[Chunk] | None = None) -> int:
    """Run streams in parallel, with their frames spread evenly over time; return the number of frames."""

    async def one(number: int, request: bytes) -> int:
        connection = await Connection.to(url)
        connection.chunks = chunks
        await asyncio.sleep(number / len(requests) / rate)
        await connection.ask(request)
        connection.close()
        return connection.frames

    return sum(await asyncio.gather(*(one(*numbered) for numbered in enumerate(requests))))


async def large_body(url: str, size: int) -> None:
    """Send a body of a number of bytes and wait for the response."""
    reader, writer = await asyncio.open_connection(*_address(url))
    writer.write(_HEAD.format(PATH, urlsplit(url).netloc, "application/octet-stream", size).encode())
    for start in range(0, size, len(_PIECE)):
        writer.write(_PIECE[: min(len(_PIECE), size - start)])
        await writer.drain()
    answer = await reader.readline()
    writer.close()
    if b" 200 " not in answer:
        raise RuntimeError(f"not answered with 200: {answer!r}")


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 0


async def _until(end: float, connection: Connection, request: bytes) -> int:
    count = 0
    while time.perf_counter() < end:
        await connection.ask(request)
        count += 1
    connection.close()
    return count
