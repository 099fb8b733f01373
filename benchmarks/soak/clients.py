"""The clients of a soak, in a process of their own: viewers, streams, requests that fail, and clients that are slow.

``python -m benchmarks.soak.clients JSON`` with the fields of ``Plan``; writes what it saw in each cycle as a JSON line.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from benchmarks.load import question
from benchmarks.loops import loop_factory
from benchmarks.soak.cycle import BUSY, MEASURED, Cycles
from benchmarks.soak.engine import FlappingEngine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

_ENDLESS = 10**9
_RATE = 50.0
_PATIENCE_SECONDS = 2.0
_UPGRADE = (
    *("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"),
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
_EACH = 4
"""Number of parallel clients of each kind."""
_DICE = random.Random(13)  # noqa: S311 - the same order in every run


class Plan(NamedTuple):
    """The addresses of the programs, and the start of cycles."""

    web: str
    proxied: str
    flapping: str
    upstream: str
    engine_port: int
    began: float
    cycle_seconds: float


@dataclass
class Seen:
    """The observations of a cycle."""

    gaps: dict[str, float] = field(default_factory=lambda: {"proxied": 0.0, "bypass": 0.0})
    gap_ended: float = 0.0
    """End of the proxied stream's longest gap, as a share of the cycle."""
    counts: dict[str, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def count(self, what: str) -> None:
        """Count an event."""
        self.counts[what] = self.counts.get(what, 0) + 1


class Clients:
    """All clients; ``run`` runs until cancelled."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._cycles = Cycles(plan.began, plan.cycle_seconds)
        self.seen = Seen()

    async def run(self) -> None:
        """Run the engine, the endless streams, and the others while a cycle is busy."""
        engine = FlappingEngine(self._plan.engine_port, self._cycles.fault)
        kinds = (self._view, self._view, self._stream, self._leave_a_stream, self._fail, self._read, self._be_slow)
        async with asyncio.TaskGroup() as group:
            group.create_task(engine.run())
            group.create_task(self._measure("proxied", self._plan.proxied))
            group.create_task(self._measure("bypass", self._plan.upstream))
            for kind in kinds:
                for _ in range(_EACH):
                    group.create_task(self._while_busy(kind))
            group.create_task(self._report())

    async def _report(self) -> None:
        cycle = 0
        while True:
            await asyncio.sleep(self._cycles.moment(cycle, MEASURED.end) - time.monotonic())
            seen, self.seen = self.seen, Seen()
            print(json.dumps(vars(seen)), flush=True)
            cycle += 1

    async def _while_busy(self, client: Callable[[], Awaitable[None]]) -> None:
        """Run a client repeatedly during the busy part of a cycle; cancel it at the end of that."""
        while True:
            left = (BUSY.end - self._cycles.share()) * self._plan.cycle_seconds
            if not BUSY.holds(self._cycles.share()):
                await asyncio.sleep(0.1)
                continue
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                async with asyncio.timeout(left):
                    await client()
            await asyncio.sleep(_DICE.uniform(0.05, 0.3))

    async def _measure(self, name: str, url: str) -> None:
        """Read one endless stream and note the longest gap between its chunks."""
        while True:
            last: float | None = None
            try:
                async with connected(url, [question(url, "steady", _ENDLESS, _RATE)]) as (reader, _):
                    while chunk := await reader.read(1 << 16):
                        now = time.monotonic()
                        if last is not None:
                            self._note(name, now - last)
                        elif not chunk.startswith(b"HTTP/1.1 200"):
                            break
                        last = now
            except OSError:
                pass
            self.seen.broken.append(f"the {name} stream broke")
            await asyncio.sleep(1)

    def _note(self, name: str, gap: float) -> None:
        if gap > self.seen.gaps[name]:
            self.seen.gaps[name] = gap
            if name == "proxied":
                self.seen.gap_ended = self._cycles.share()

    async def _view(self) -> None:
        """Watch the live feed, by WebSocket or server-sent events; some clients disconnect without closing properly."""
        socketed = _DICE.random() < 0.5  # noqa: PLR2004 - half of them
        ask = get(self._plan.web, "/metrics", *_UPGRADE) if socketed else get(self._plan.web, "/api/live")
        async with connected(self._plan.web, [ask]) as (reader, writer):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DICE.uniform(1, 8)):
                    while await reader.read(1 << 16):
                        pass
            self.seen.count("viewers")
            if _DICE.random() < 0.5:  # noqa: PLR2004 - half of them
                writer.transport.abort()

    async def _stream(self) -> None:
        """Read a whole stream of a second."""
        ask = question(self._plan.proxied, f"model-{_DICE.randrange(4)}", int(_RATE), _RATE)
        async with connected(self._plan.proxied, [ask]) as (reader, _):
            await reader.readuntil(b"[DONE]")
            self.seen.count("streams")

    async def _leave_a_stream(self) -> None:
        """Disconnect in the middle of a stream."""
        ask = question(self._plan.proxied, f"model-{_DICE.randrange(4)}", int(_RATE), _RATE)
        async with connected(self._plan.proxied, [ask]) as (reader, writer):
            await reader.readuntil(b"data: ")
            await asyncio.sleep(_DICE.uniform(0, 0.5))
            writer.transport.abort()
            self.seen.count("streams left")

    async def _fail(self) -> None:
        """Send a request to the server that has faults, with a timeout."""
        async with connected(self._plan.flapping, [question(self._plan.flapping, "flapping")]) as (reader, _):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                status = (await reader.readline()).split(b" ")
            self.seen.count(f"status {status[1].decode()}" if len(status) > 1 else "no status")

    async def _read(self) -> None:
        """Request the paths that the live page requests, and one that does not exist."""
        paths = ("/", "/api/history", "/api/models", "/nothing", "/metrics?collect[]=nothing", "/metrics?collect[]=cpu")
        path = _DICE.choice(paths)
        async with connected(self._plan.web, [get(self._plan.web, path, "Connection: close")]) as (reader, _):
            while await reader.read(1 << 16):
                pass
            self.seen.count("pages")

    async def _be_slow(self) -> None:
        """Send incomplete headers, or a body byte by byte, or do not read the response."""
        web, proxied = self._plan.web, self._plan.proxied
        slow = [
            (web, [b"GET /metrics HTTP/1.1\r\n", *[b"X-Slow: a\r\n"] * 100]),
            (web, [get(web, "/metrics"), *[b""] * 100]),
            (proxied, [b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n", *[b"X-Slow: a\r\n"] * 100]),
            (proxied, [question(proxied, "slow").partition(b"\r\n\r\n")[0] + b"\r\n\r\n", *[b" "] * 100]),
        ]
        async with connected(*_DICE.choice(slow), receive_buffer=4096):
            self.seen.count("slow")


@contextlib.asynccontextmanager
async def connected(
    url: str, pieces: Sequence[bytes], *, receive_buffer: int | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect, send the first piece at once and one more every 100 ms, then disconnect."""
    bare = socket.socket()
    bare.setblocking(False)
    if receive_buffer:
        bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    parts = urlsplit(url)
    try:
        await asyncio.get_running_loop().sock_connect(bare, (parts.hostname, parts.port))
        reader, writer = await asyncio.open_connection(sock=bare)
    except BaseException:
        bare.close()
        raise
    try:
        for number, piece in enumerate(pieces):
            if number:
                await asyncio.sleep(0.1)
            writer.write(piece)
            await writer.drain()
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def get(url: str, path: str, *fields: str) -> bytes:
    """Return a request."""
    return "\r\n".join((f"GET {path} HTTP/1.1", f"Host: {urlsplit(url).netloc}", *fields, "", "")).encode()


def main(given: str) -> None:
    """Run all clients until the process is ended."""
    fields: dict[str, Any] = json.loads(given)
    with asyncio.Runner(loop_factory=loop_factory()) as runner, contextlib.suppress(KeyboardInterrupt):
        runner.run(Clients(Plan(**fields)).run())


if __name__ == "__main__":
    main(sys.argv[1])
