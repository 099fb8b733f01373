"""A model server on a real socket, scripted byte by byte, that remembers what it was sent."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Self, cast

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Iterator
    from types import TracebackType

DEADLINE_SECONDS = 10.0
_GONE_SECONDS = 120.0
"""Longer than a busy machine takes to open a thousand connections: who waits must not be the first to leave."""
_LIMIT = 1 << 20


class Call:
    """One request as it came, and the means to answer it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        self.head = head
        """Request line and fields as they came, the blank line included."""
        self.raw_body = b""
        """The body as it came, framing included; known once body() was awaited."""
        self.ended = False
        self.reader = reader
        self._writer = writer
        self._body: bytes | None = None

    @property
    def line(self) -> str:
        """The request line."""
        return self.head.split(b"\r\n", 1)[0].decode("latin-1")

    @property
    def target(self) -> str:
        """The request target as sent."""
        return self.line.split(" ")[1]

    @property
    def fields(self) -> list[tuple[str, str]]:
        """Names and values in order, as sent."""
        return parse_fields(self.head)

    def values(self, name: str) -> list[str]:
        """Return the values of a field, in order."""
        return [value for key, value in self.fields if key.lower() == name.lower()]

    async def body(self) -> bytes:
        """Wait for the whole body and return it without its framing."""
        if self._body is None:
            if self.values("Transfer-Encoding"):
                self._body = await self._chunks()
            else:
                self._body = self.raw_body = await self.reader.readexactly(
                    int((self.values("Content-Length") or ["0"])[0])
                )
        return self._body

    async def some(self) -> bytes:
        """Wait for more of the body, framing included; nothing when the peer is gone."""
        return await asyncio.wait_for(self.reader.read(_LIMIT), DEADLINE_SECONDS)

    def pause_reading(self) -> None:
        """Let what the peer sends wait in the kernel."""
        cast("asyncio.Transport", self._writer.transport).pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        cast("asyncio.Transport", self._writer.transport).resume_reading()

    async def _chunks(self) -> bytes:
        whole = b""
        while True:
            line = await self.reader.readuntil(b"\r\n")
            data = await self.reader.readexactly(int(line, 16) + 2)
            self.raw_body += line + data
            whole += data[:-2]
            if line == b"0\r\n":
                return whole

    async def send(self, *pieces: bytes) -> None:
        """Send bytes in one write."""
        self._writer.write(b"".join(pieces))
        await self._writer.drain()

    async def peer_gone(self) -> None:
        """Wait until the other side has closed the connection, which fails the test when it takes too long."""
        async with asyncio.timeout(_GONE_SECONDS):
            with contextlib.suppress(ConnectionError):
                while await self.reader.read(_LIMIT):
                    pass

    def half_close(self) -> None:
        """Send no more, and read on."""
        self._writer.write_eof()

    def close(self) -> None:
        """Close the connection after what was sent."""
        self.ended = True
        self._writer.close()

    def reset(self) -> None:
        """Break the connection with a RST."""
        self.ended = True
        reset(self._writer)


Script = Callable[[Call], Awaitable[None]]


class Upstream:
    """Listens on a free port and runs the script for each request; to be used as a context manager."""

    def __init__(self, script: Script, *, receive_buffer: int | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.calls: list[Call] = []
        self.connections = 0
        self.port = 0
        self._receive_buffer = receive_buffer
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def open(self) -> int:
        """The number of connections that are open."""
        return len(self._tasks)

    async def idle(self) -> None:
        """Wait until every connection is closed."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while self._tasks:
                await asyncio.wait(set(self._tasks))

    async def __aenter__(self) -> Self:
        sock = socket.create_server(("127.0.0.1", 0))
        if self._receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        self.port = sock.getsockname()[1]
        self._server = await asyncio.start_server(self._accept, sock=sock, limit=_LIMIT, ssl=self._tls)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        assert self._server is not None
        self._server.close()
        for task in set(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def killed(self) -> AsyncIterator[None]:
        """Be gone meanwhile, as a server whose process was killed: connections break, and new ones are refused."""
        assert self._server is not None
        for sock in self._server.sockets:
            asyncio.get_running_loop().remove_reader(sock.fileno())
        for _ in range(
            5
        ):  # asyncio leaks a connection that it has accepted but not yet begun when its server is closed
            await asyncio.sleep(0)
        self._server.close()
        for task in set(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        yield
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=_LIMIT, ssl=self._tls)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: writer.close())  # also of a task that is cancelled before it begins

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            try:
                while True:
                    call = Call(reader, writer, await reader.readuntil(b"\r\n\r\n"))
                    self.calls.append(call)
                    await self.script(call)
                    if call.ended:
                        return
                    await call.body()
            finally:
                writer.close()


@contextlib.contextmanager
def refusing_port() -> Iterator[int]:
    """Give a port where connections are refused: it is bound, so that nobody else can get it, but nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """Give a port where connections are neither accepted nor refused: its queue is full, the kernel drops attempts."""
    waiting = [socket.socket() for _ in range(4)]
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for sock in waiting:
            stack.enter_context(sock).setblocking(False)
            sock.connect_ex(full.getsockname())
        yield full.getsockname()[1]


def parse_fields(head: bytes) -> list[tuple[str, str]]:
    """Return names and values of a message's head, in order and as sent."""
    lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")[1:]
    pairs = [line.decode("latin-1").partition(":") for line in lines]
    return [(name, value.strip(" ")) for name, _, value in pairs]


def reset(writer: asyncio.StreamWriter) -> None:
    """Break a connection with a RST."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def reply(body: bytes = b"", *fields: str, status: str = "200 OK") -> bytes:
    """Return a reply with its length; ``fields`` are whole lines."""
    return head(*fields, f"Content-Length: {len(body)}", status=status) + body


def head(*fields: str, status: str = "200 OK") -> bytes:
    """Return a reply's head and nothing more."""
    return "\r\n".join((f"HTTP/1.1 {status}", *fields, "", "")).encode("latin-1")


def chunk(data: bytes) -> bytes:
    """Return data as one chunk of the chunked coding."""
    return b"%x\r\n%s\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked"


def always(*pieces: bytes) -> Script:
    """Return a script that reads the request and answers these bytes."""

    async def script(call: Call) -> None:
        await call.body()
        await call.send(*pieces)

    return script


def then_silent(*pieces: bytes) -> Script:
    """Return a script that reads the request, answers these bytes and no more until the client's side is gone."""

    async def script(call: Call) -> None:
        await call.body()
        if pieces:
            await call.send(*pieces)
        await call.peer_gone()
        call.close()

    return script


never = then_silent()
"""Leaves a request unanswered until the client's side is gone."""


def in_turn(*scripts: Script) -> Script:
    """Return a script that plays one script for each request, in order."""
    left = iter(scripts)

    async def script(call: Call) -> None:
        await next(left)(call)

    return script
