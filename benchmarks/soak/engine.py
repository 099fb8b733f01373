"""A stand-in for vLLM with faults: it refuses connections, hangs, or responds with bytes that are not HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

from tests.support.pages import pages

if TYPE_CHECKING:
    from collections.abc import Callable

REFUSE, HANG, GARBAGE = range(3)
"""The faults, in the order of the cycle's windows."""
_EVERY_SECONDS = 0.1
_COMPLETION = (
    b'{"id":"1","object":"chat.completion","model":"flapping","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"yes"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}}'
)


class FlappingEngine:
    """Serves captured pages and chat completions on a port of 127.0.0.1, with the fault that ``fault`` returns."""

    def __init__(self, port: int, fault: Callable[[], int | None]) -> None:
        self.port = port
        self._fault = fault
        self._pages = pages("vllm")
        self._connections: set[asyncio.StreamWriter] = set()

    async def run(self) -> None:
        """Serve until cancelled."""
        server: asyncio.Server | None = None
        shown: int | None = None
        try:
            while True:
                fault = self._fault()
                if fault != shown:
                    self._hang_up()
                if fault == REFUSE and server is not None:
                    server.close()
                    server = None
                elif fault != REFUSE and server is None:
                    server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, reuse_address=True)
                shown = fault
                await asyncio.sleep(_EVERY_SECONDS)
        finally:
            self._hang_up()
            if server is not None:
                server.close()

    def _hang_up(self) -> None:
        for writer in list(self._connections):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
                while await self._answer(reader, writer):
                    await writer.drain()
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Respond to a request; return whether another one may follow."""
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line)
        await reader.readexactly(int(fields.get(b"content-length", b"0")))
        match self._fault():
            case 1:  # HANG
                await reader.read()  # until the connection ends
                return False
            case 2:  # GARBAGE
                writer.write(os.urandom(4096))
                return False
        method, path, _ = head.split(b" ", 2)
        body = _COMPLETION if method == b"POST" else self._pages.get(path.decode())
        status = b"404 Not Found" if body is None else b"200 OK"
        kind = b"text/plain" if path == b"/metrics" else b"application/json"
        head = b"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (status, kind, len(body or b""))
        writer.write(head + (body or b""))
        return True
