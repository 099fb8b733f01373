"""Stand-in model servers on real sockets: with captured pages, or with pages that misbehave on purpose."""

from __future__ import annotations

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Answer = bytes | Callable[[BaseHTTPRequestHandler], None]


class StandIn:
    """One server; its pages are bodies, or functions that handle the connection themselves."""

    def __init__(self, pages: Mapping[str, Answer]) -> None:
        self.pages = dict(pages)
        self.asked: list[str] = []
        self.bodies: list[bytes] = []
        self.headers: list[Mapping[str, str]] = []
        self.connections = 0
        self.released = threading.Event()
        """Ends what hangs."""
        self.clients: list[Callable[[], None]] = []
        """Closes what talks to this server."""
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                stand_in.connections += 1

            def do_GET(self) -> None:
                stand_in.answer(self)

            def do_POST(self) -> None:
                stand_in.bodies.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
                stand_in.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.01], daemon=True)
        self._thread.start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Respond to one request."""
        self.asked.append(handler.path)
        self.headers.append(dict(handler.headers.items()))
        page = self.pages.get(handler.path)
        if page is None:
            reply(handler, 404, b'{"error":"not found"}')
        elif isinstance(page, bytes):
            reply(handler, 200, page)
        else:
            with contextlib.suppress(OSError):
                page(handler)

    def hang(self, _handler: BaseHTTPRequestHandler) -> None:
        """Send nothing until the test is over."""
        self.released.wait(30)

    def drip(self, handler: BaseHTTPRequestHandler) -> None:
        """Send a byte of the response's headers now and then, until the client disconnects."""
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not self.released.wait(0.02):
            handler.wfile.write(b"a")

    def close(self) -> None:
        """Stop serving, and release the requests that hang."""
        self.released.set()
        for close in self.clients:
            close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


def reply(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    """Send a complete response."""
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def status(code: int, body: bytes = b"", **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """Return a page that answers with a status."""
    return lambda handler: reply(handler, code, body, **headers)


def huge(handler: BaseHTTPRequestHandler) -> None:
    """Send 100 MB, in chunks, as long as they are taken."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"vllm:a 1\n" * 8192
    for _ in range(100_000_000 // len(chunk)):
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))


def cut_off(handler: BaseHTTPRequestHandler) -> None:
    """Announce a longer body than is sent."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    handler.close_connection = True


def not_http(handler: BaseHTTPRequestHandler) -> None:
    """Respond with something that is not HTTP."""
    handler.wfile.write(b"220 mail.example ESMTP\r\n")
    handler.close_connection = True


@contextlib.contextmanager
def standing_in(pages: Mapping[str, Answer]) -> Iterator[StandIn]:
    """Serve pages."""
    server = StandIn(pages)
    try:
        yield server
    finally:
        server.close()
