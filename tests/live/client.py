"""A client of the live feed on plain sockets, written against its documentation."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import TYPE_CHECKING, Any, Self

from tests.proxy.frames import CLOSE, PONG, TEXT, UPGRADE, Frame, read_frame
from tests.proxy.upstream import DEADLINE_SECONDS

if TYPE_CHECKING:
    from types import TracebackType

_RANGES = {"<100ms", "100-500ms", "500ms-1s", "1-5s", ">5s"}
_GPU = {"id": str, "name": str, "usage": float, "memoryUsed": float, "memoryTotal": float, "temperature": float}
_MS = {"avgResponseTime": float, "p50": float, "p95": float, "p99": float}
_LAST = {"secondsAgo": float, **_MS, "timeToFirstToken": float, "successRate": float}
_MODEL = {
    "id": str,
    "server": str,
    "model": str,
    "name": str,
    "requestsPerSecond": float,
    **_MS,
    "successRate": float,
    "recentRequests": int,
    "eligibleRequests": int,
    "last": _LAST,
    "tokensPerSecond": float,
    "lastStreamTokensPerSecond": float,
    "timeToFirstToken": float,
    "inFlight": int,
    "totalRequests": int,
    **dict.fromkeys(("requestsWaiting", "contextLength", "kvCacheUsage", "memoryUsage", "gpuMemoryUsage"), float),
    "loaded": bool,
}
_SERVER = {
    **dict.fromkeys(("name", "kind", "version", "address", "proxyAddress"), str),
    "up": bool,
    **dict.fromkeys(("requestsRunning", "requestsWaiting"), float),
}
_MESSAGE = {
    "timestamp": str,
    "interval": float,
    "demo": bool,
    "version": str,
    "host": dict.fromkeys(("name", "system", "release", "kernel", "cpuModel", "bootTime"), str),
    "limits": {"cpuCores": float, "memoryBytes": float},
    "cpuUsage": float,
    "cpuCores": float,
    "cpuCoreUsage": [int],
    "loadAverage": float,
    "loadAverages": [float],
    "memoryUsage": float,
    "memoryUsed": float,
    "memoryAvailable": float,
    "memoryTotal": float,
    "swapUsed": float,
    "swapTotal": float,
    "gpuUsage": float,
    "gpuInfo": _GPU,
    "gpus": [
        {
            **_GPU,
            **dict.fromkeys(("uuid", "state"), str),
            **dict.fromkeys(("powerWatts", "powerLimitWatts", "temperatureLimit"), float),
            "memoryUsers": [{"name": str, "bytes": int}],
            "throttledBy": [str],
        }
    ],
    "gpusMissing": int,
    "gpuDetection": {"state": str, "detail": str},
    "energy": {
        **dict.fromkeys(("powerWatts", "todayKwh", "todayCost"), float),
        "parts": [str],
        **dict.fromkeys(("todaySince", "currency"), str),
    },
    "networkStats": {"bytesInPerSecond": float, "bytesOutPerSecond": float},
    "diskUsage": {"used": float, "total": float, "percent": float},
    "diskStats": {"bytesReadPerSecond": float, "bytesWrittenPerSecond": float},
    "fileSystems": [
        {
            "mountpoint": str,
            **dict.fromkeys(("used", "total", "available", "percent"), float),
            "readOnly": bool,
            "models": [str],
        }
    ],
    "diskTroubles": [{"mountpoint": str, "problem": str}],
    "apiStats": {
        "totalRequests": int,
        "requestsPerSecond": float,
        "errorRate": float,
        "rateSeconds": float,
        "recentRequests": int,
        "eligibleRequests": int,
        "last": _LAST,
        **_MS,
        "responseTimeDistribution": dict.fromkeys(_RANGES, int),
        "maxDistributionCount": int,
    },
    "servers": [_SERVER],
    "models": [_MODEL],
}


def check_message(message: Any) -> None:
    """Fail unless a message has exactly the documented names, each with a value of its type or null."""
    _check(message, _MESSAGE, "message")
    _check_numbers(message["apiStats"], "requestsPerSecond", "avgResponseTime", "errorRate", "maxDistributionCount")
    assert message["apiStats"]["maxDistributionCount"] >= 1
    for model in message["models"]:
        check_model_numbers(model)
    for percent in (message["cpuUsage"], message["memoryUsage"], message["gpuUsage"], message["apiStats"]["errorRate"]):
        assert percent is None or 0 <= percent <= 100


def check_model_numbers(model: Any) -> None:
    """Fail unless a model has a number where views format it without a check."""
    _check_numbers(model, "requestsPerSecond", "avgResponseTime", "successRate", "memoryUsage")


def _check_numbers(values: Any, *names: str) -> None:
    assert {name for name in names if type(values[name]) not in (int, float)} == set()


def _check(value: Any, wanted: Any, where: str) -> None:
    if value is None:
        return
    if isinstance(wanted, dict):
        assert value.keys() == wanted.keys(), where
        for name, kind in wanted.items():
            _check(value[name], kind, f"{where}.{name}")
    elif isinstance(wanted, list):
        for item in value:
            _check(item, wanted[0], f"{where}[]")
    elif wanted is float:
        assert type(value) in (int, float), where
    else:
        assert type(value) is wanted, where


class Connection:
    """A connection to the exporter; a context manager."""

    def __init__(self, address: str, *, receive_buffer: int | None = None) -> None:
        self._host, self._port = address.rsplit(":", 1)
        self._receive_buffer = receive_buffer
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        bare = socket.socket()
        if self._receive_buffer is not None:
            bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        bare.setblocking(False)
        await asyncio.get_running_loop().sock_connect(bare, (self._host, int(self._port)))
        self.reader, self.writer = await asyncio.open_connection(sock=bare)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    async def ask(self, path: str, *fields: str, method: str = "GET", version: str = "1.1") -> tuple[int, str]:
        """Send a request and return the status and the headers of the response."""
        host = () if any(field.startswith("Host:") for field in fields) else (f"Host: {self._host}:{self._port}",)
        lines = [f"{method} {path} HTTP/{version}", *host, *fields, "", ""]
        self.writer.write("\r\n".join(lines).encode())
        async with asyncio.timeout(DEADLINE_SECONDS):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        return int(head.split()[1]), head

    async def body(self, head: str) -> bytes:
        """Return the body, by the Content-Length of the headers."""
        (length,) = [line.split(": ")[1] for line in head.splitlines() if line.lower().startswith("content-length")]
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self.reader.readexactly(int(length))

    async def watch(self, path: str = "/metrics", *fields: str) -> Self:
        """Open a WebSocket."""
        status, head = await self.ask(path, *UPGRADE, *fields)
        assert status == 101, head
        return self

    async def frame(self) -> Frame:
        """Return the next frame."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await read_frame(self.reader)

    async def message(self) -> dict[str, Any]:
        """Return the next message."""
        while (frame := await self.frame()).opcode == PONG:
            pass
        assert frame.opcode == TEXT, frame
        message: dict[str, Any] = json.loads(frame.payload)
        return message

    async def closed(self) -> int | None:
        """Wait until the exporter closes the connection; return its close code, None without a close frame."""
        code = None
        async with asyncio.timeout(DEADLINE_SECONDS):
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    frame = await read_frame(self.reader)
                    if frame.opcode == CLOSE:
                        code = int.from_bytes(frame.payload[:2], "big")
        return code

    async def ended(self) -> None:
        """Wait until the exporter ends the connection."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while await self.reader.read(1 << 16):
                pass

    async def listen(self) -> Self:
        """Request server-sent events."""
        status, head = await self.ask("/api/live", "Accept: text/event-stream")
        assert status == 200, head
        assert "Content-Type: text/event-stream" in head
        assert "Cache-Control: no-store" in head
        return self

    async def event(self) -> dict[str, Any]:
        """Return the next event's data; it is one chunk."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            size = int(await self.reader.readline(), 16)
            chunk = (await self.reader.readexactly(size + 2)).decode()
        return data_of(chunk.removesuffix("\r\n"))


def data_of(event: str) -> dict[str, Any]:
    """Return the data of a server-sent event named message."""
    kind, data, *rest = event.split("\n")
    assert kind == "event: message"
    assert rest == ["", ""]
    message: dict[str, Any] = json.loads(data.removeprefix("data: "))
    return message


async def get(address: str, path: str, *fields: str, method: str = "GET") -> tuple[int, Any]:
    """Send a GET request and return the status and the JSON of the response."""
    async with Connection(address) as connection:
        status, head = await connection.ask(path, *fields, method=method)
        assert "application/json" in head
        assert "Cache-Control: no-store" in head
        assert "X-Content-Type-Options: nosniff" in head
        assert "Cross-Origin-Resource-Policy: same-origin" in head
        return status, json.loads(await connection.body(head))
