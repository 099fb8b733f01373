"""Ways from a browser to the exporter by another port: a tunnel, and a reverse proxy as beginners configure one."""

from __future__ import annotations

import contextlib
import re
import socket
import socketserver
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    EditHead = Callable[[bytes], bytes]
    """Returns the head of a request as the exporter receives it."""


def unchanged(head: bytes) -> bytes:
    """Return the head as it was sent: a tunnel, such as ``ssh -L``."""
    return head


def rewritten(address: str) -> EditHead:
    """Return nginx's ``proxy_pass`` without further directives: Host is the upstream's, and there are no WebSockets."""

    def edit(head: bytes) -> bytes:
        kept = re.sub(rb"\r\n(Upgrade|Connection|Sec-WebSocket-[^:]*|Host):[^\r]*", b"", head, flags=re.IGNORECASE)
        return kept.replace(b"\r\n\r\n", f"\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())

    return edit


@contextlib.contextmanager
def forwarding(address: str, edit: EditHead) -> Iterator[int]:
    """Forward connections to ``address``, each with one request whose head is edited; yield the port."""
    host, port = address.rsplit(":", 1)
    opened: list[socket.socket] = []

    class Forward(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            head = b""
            while not head.endswith(b"\r\n\r\n") and (line := self.rfile.readline()):
                head += line
            with socket.create_connection((host, int(port))) as upstream:
                opened.extend((self.connection, upstream))
                upstream.sendall(edit(head))
                back = threading.Thread(target=_copy, args=(upstream, self.connection))
                back.start()
                _copy(self.connection, upstream)
                back.join()

    class Server(socketserver.ThreadingTCPServer):
        request_queue_size = 32

    with Server(("127.0.0.1", 0), Forward) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
            for each in opened:
                _end(each)


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Copy bytes until either side closes, then end both."""
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    _end(source)
    _end(target)


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
