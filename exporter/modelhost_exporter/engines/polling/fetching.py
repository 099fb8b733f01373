"""One GET at a time over a persistent connection: bounded in size and time, redirected only within the server.

Exceptions (the reason of each is a label):
    LookupError             the server responds, but without success
    └── NotServed
    OSError
    ├── CannotFetch         the response is no valid one: too_large, redirect, not_http
    ├── TimeoutError        timeout
    └── OSError             unreachable
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Protocol
from urllib.parse import urljoin, urlsplit

from modelhost_exporter.engines.pages import NotServed

MAX_BYTES = 8 << 20
_CHUNK_BYTES = 1 << 16
_MAX_REDIRECTS = 3
_OK, _REDIRECTS = range(200, 300), (301, 302, 303, 307, 308)
# uvicorn and llama.cpp close a connection that is idle for 5 s: it is opened anew then
_IDLE_SECONDS = 4.0


class CannotFetch(OSError):
    """The server cannot be read; the reason is one word."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


REASONS = ("unreachable", "timeout", "too_large", "redirect", "not_http")
"""Why a fetch fails."""


def reason_of(error: OSError) -> str:
    """Return why a fetch failed, in one word."""
    if isinstance(error, CannotFetch):
        return error.reason
    return "timeout" if isinstance(error, TimeoutError) else "unreachable"


class Client(Protocol):
    """A client of one server; used by one thread at a time. Raises as the module's docstring says."""

    def get(self, path: str) -> bytes:
        """Return the body of a reply with success."""
        ...

    def post(self, path: str, body: bytes) -> bytes:
        """Send JSON and return the body of a reply with success."""
        ...

    def close(self) -> None:
        """Close the connection; the next request opens it anew."""
        ...


Connect = Callable[[str, Mapping[str, str], float], Client]
"""Returns a client of the server at a URL, with headers and a time-out in seconds; sends nothing yet."""


class Fetcher:
    """A client of one server (scheme, host and port); used by one thread at a time."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        timeout_seconds: float,
        max_bytes: int = MAX_BYTES,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        parts = urlsplit(url)
        self._base = parts.path.rstrip("/")
        self._origin = (parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
        self._headers = {"Accept": "*/*", "User-Agent": "modelhost-exporter", **headers}
        self._timeout = timeout_seconds
        self._max_bytes = max_bytes
        self._now = now
        self._connection: _Connection | None = None
        self._used = 0.0

    def get(self, path: str) -> bytes:
        """Return the body of a successful response, within the time-out; raises as the module's docstring says."""
        return self.request("GET", self._base + path)

    def post(self, path: str, body: bytes) -> bytes:
        """Send JSON and return the body of a reply with success; likewise."""
        return self.request("POST", self._base + path, body)

    def request(self, method: str, target: str, body: bytes | None = None) -> bytes:
        """Send a request and follow redirects that stay on this server."""
        deadline = self._now() + self._timeout
        for _ in range(_MAX_REDIRECTS):
            status, location, answer = self._exchange(method, target, body, deadline)
            if status in _OK:
                return answer
            if status not in _REDIRECTS or not location or method != "GET":
                raise NotServed(f"{_page(target)} answers {status}", status)
            target = self._redirected(target, location)
        raise CannotFetch("redirect", f"{_page(target)} is redirected again and again")

    def close(self) -> None:
        """Close the connection; the next request opens it anew."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _redirected(self, target: str, location: str) -> str:
        scheme, host, port = self._origin
        there = urlsplit(urljoin(f"{scheme}://{host}:{port}{target}", location))
        if (there.scheme, there.hostname, there.port or (443 if there.scheme == "https" else 80)) != self._origin:
            raise CannotFetch("redirect", f"{_page(target)} is redirected to another server")
        return there.path + (f"?{there.query}" if there.query else "")

    def _exchange(self, method: str, target: str, body: bytes | None, deadline: float) -> tuple[int, str, bytes]:
        """Send one request; a kept connection that the server has closed meanwhile is opened anew, once."""
        kept = self._connection is not None and self._now() - self._used < _IDLE_SECONDS
        if not kept:
            self.close()
        try:
            try:
                return self._once(method, target, body, deadline)
            except (http.client.RemoteDisconnected, ConnectionError):
                if not kept or method != "GET":
                    raise
                self.close()
                return self._once(method, target, body, deadline)
        except (http.client.HTTPException, ValueError) as error:
            self.close()
            raise CannotFetch("not_http", f"{_page(target)}: {type(error).__name__}") from error
        except OSError:
            self.close()
            raise

    def _once(self, method: str, target: str, body: bytes | None, deadline: float) -> tuple[int, str, bytes]:
        if self._connection is None:
            self._connection = _Connection(self._origin)
        self._connection.deadline = lambda: deadline - self._now()
        headers = self._headers if body is None else {**self._headers, "Content-Type": "application/json"}
        self._connection.request(method, target, body, headers)
        response = self._connection.getresponse()
        answer = self._body(response, target)
        if response.will_close:
            self.close()
        self._used = self._now()
        return response.status, response.getheader("Location", ""), answer

    def _body(self, response: http.client.HTTPResponse, target: str) -> bytes:
        body = bytearray()
        while piece := response.read1(_CHUNK_BYTES):
            body += piece
            if len(body) > self._max_bytes:
                raise CannotFetch("too_large", f"{_page(target)} is larger than {self._max_bytes} bytes")
        if response.length:
            raise CannotFetch("not_http", f"{_page(target)} breaks off")
        response.close()  # read1 leaves it open at its end, and the next request waits for that
        return bytes(body)


class _Connection(http.client.HTTPConnection):
    """A connection all of whose reads and writes share a deadline: a server that drips bytes cannot outlast it."""

    def __init__(self, origin: tuple[str, str, int]) -> None:
        scheme, host, port = origin
        super().__init__(host, port)
        self._tls = ssl.create_default_context() if scheme == "https" else None
        self.deadline: Callable[[], float] = lambda: 0.0

    def connect(self) -> None:
        """Open the connection within what is left of the time."""
        plain = socket.create_connection((self.host, self.port), timeout=_positive(self.deadline()))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            sock = self._tls.wrap_socket(plain, server_hostname=self.host) if self._tls else plain
        except BaseException:
            plain.close()
            raise
        self.sock = _TimedSocket(sock, lambda: self.deadline())  # noqa: PLW0108 - asked anew each time


class _TimedSocket:
    """What http.client needs of a socket, each call with what is left of the time."""

    def __init__(self, sock: socket.socket, left: Callable[[], float]) -> None:
        self._sock = sock
        self._left = left

    def sendall(self, data: bytes) -> None:
        self.hurry()
        self._sock.sendall(data)

    def hurry(self) -> None:
        self._sock.settimeout(_positive(self._left()))

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self, self._sock.makefile("rb", buffering=0)))

    def close(self) -> None:
        """Close the socket as soon as no file of it is open: the end of a reply may still be read."""
        self._sock.close()


class _TimedReader(io.RawIOBase):
    """The reading side of a socket."""

    def __init__(self, sock: _TimedSocket, file: io.RawIOBase) -> None:
        self._sock = sock
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override] # all that BufferedReader gives
        self._sock.hurry()
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


def _page(target: str) -> str:
    """Return a target for messages: without its query, which may be a secret where the server has redirected to it."""
    return target.partition("?")[0]


def _positive(seconds: float) -> float:
    """Return the seconds that are left; TimeoutError when none are."""
    if seconds <= 0:
        raise TimeoutError("no answer in time")
    return seconds
