"""A client that writes raw bytes and reads replies as strictly as RFC 9112 has it."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tests.proxy.upstream import DEADLINE_SECONDS, parse_fields, reset

if TYPE_CHECKING:
    import ssl
    from types import TracebackType


class BrokenReply(Exception):
    """A reply that ended before its framing said so; ``args[0]`` is the body that came."""


@dataclass(frozen=True)
class Reply:
    """A reply as it came."""

    head: bytes
    body: bytes = b""

    @property
    def status(self) -> str:
        """Status and reason."""
        return self.head.split(b"\r\n", 1)[0].decode("latin-1").partition(" ")[2]

    @property
    def code(self) -> int:
        """The status code."""
        return int(self.status[:3])

    @property
    def fields(self) -> list[tuple[str, str]]:
        """Names and values in order, as sent."""
        return parse_fields(self.head)

    def values(self, name: str) -> list[str]:
        """Return the values of a field, in order."""
        return [value for key, value in self.fields if key.lower() == name.lower()]


class Client:
    """One connection; to be used as a context manager."""

    def __init__(
        self,
        port: int,
        *,
        host: str = "127.0.0.1",
        receive_buffer: int = 1 << 16,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._address = host, port
        self._tls = tls
        self._limit = receive_buffer
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection(*self._address, limit=self._limit, ssl=self._tls)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        await self.close()

    async def send(self, *pieces: bytes) -> None:
        """Send bytes."""
        self.writer.write(b"".join(pieces))
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self.writer.drain()

    async def close(self) -> None:
        """Close the connection."""
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    def reset(self) -> None:
        """Break the connection with a RST."""
        reset(self.writer)

    async def head(self) -> Reply:
        """Wait for a reply's head."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            return Reply(await self.reader.readuntil(b"\r\n\r\n"))

    async def exactly(self, data: bytes) -> None:
        """Wait for these bytes, which must be the next."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await self.reader.readexactly(len(data)) == data

    async def chunk(self) -> bytes:
        """Wait for one chunk of the chunked coding."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            line = await self.reader.readuntil(b"\r\n")
            return (await self.reader.readexactly(int(line, 16) + 2))[:-2]

    async def reply(self, *, bodiless: bool = False) -> Reply:
        """Wait for a whole reply; BrokenReply when it ends too early, ``bodiless`` for the reply to a HEAD."""
        got = await self.head()
        if bodiless or got.code in (204, 304):
            return got
        body = bytearray()
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await self._body(got, body)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            if isinstance(error, asyncio.IncompleteReadError):
                body += error.partial
            raise BrokenReply(bytes(body)) from error
        return Reply(got.head, bytes(body))

    async def _body(self, got: Reply, body: bytearray) -> None:
        if got.values("Transfer-Encoding"):
            assert got.values("Transfer-Encoding") == ["chunked"]
            assert not got.values("Content-Length")
            while data := await self.chunk():
                body += data
        elif lengths := got.values("Content-Length"):
            body += await self.reader.readexactly(int(lengths[0]))
        else:
            while data := await self.reader.read(1 << 16):
                body += data

    async def closed(self) -> bytes:
        """Wait until the other side closes; return what came before."""
        rest = b""
        async with asyncio.timeout(DEADLINE_SECONDS):
            with contextlib.suppress(ConnectionError):
                while data := await self.reader.read(1 << 16):
                    rest += data
        return rest


def request(
    target: str = "/v1/chat/completions", body: bytes | None = None, *fields: str, method: str | None = None
) -> bytes:
    """Return a request; ``fields`` are whole lines."""
    method = method or ("GET" if body is None else "POST")
    length = () if body is None else (f"Content-Length: {len(body)}",)
    lines = (f"{method} {target} HTTP/1.1", "Host: proxy.test", *fields, *length, "", "")
    return "\r\n".join(lines).encode("latin-1") + (body or b"")
