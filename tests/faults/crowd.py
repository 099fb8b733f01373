"""Many clients of one port that misbehave in the same way, and the exporter's counters for them."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from tests.support.programs import DEADLINE_SECONDS, missing, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.programs import Exporter

try:
    import resource
except ImportError:
    resource = None  # type: ignore[assignment]

_SPARE_DESCRIPTORS = 200


@contextlib.contextmanager
def many_descriptors(count: int) -> Iterator[None]:
    """Raise this process's limit on open sockets while the block runs; skips the test if that is not permitted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, count + _SPARE_DESCRIPTORS)
    if hard != resource.RLIM_INFINITY and wanted > hard:
        missing(f"{wanted} file descriptors are needed, and the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Crowd:
    """Open connections to HOST:PORT."""

    def __init__(self, address: str, *, receive_buffer: int | None = None) -> None:
        host, _, port = address.rpartition(":")
        self._address = (host, int(port))
        self._receive_buffer = receive_buffer
        self.sockets: list[socket.socket] = []

    def join(self, count: int, say: bytes | Callable[[int], bytes] = b"") -> None:
        """Connect ``count`` more clients, each of which sends the same bytes; closed ones are counted."""
        for number in range(count):
            client = socket.socket()
            self.sockets.append(client)
            if self._receive_buffer is not None:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
            client.settimeout(DEADLINE_SECONDS)
            with contextlib.suppress(ConnectionError):
                client.connect(self._address)
                client.sendall(say(number) if callable(say) else say)
            client.setblocking(False)

    def send(self, data: bytes) -> None:
        """Send something on each connection that is open."""
        for client in self.sockets:
            with contextlib.suppress(OSError):
                client.send(data)

    def closed(self) -> int:
        """Read received data, and return how many connections the server has closed."""
        return sum(map(_is_closed, self.sockets))

    def wait_until_closed(self) -> None:
        """Wait until the server has closed every connection."""
        wait_until(lambda: self.closed() == len(self.sockets), "every connection is closed", every=0.1)

    def close(self) -> None:
        """Close every connection."""
        for client in self.sockets:
            client.close()


def _is_closed(client: socket.socket) -> bool:
    try:
        while data := client.recv(1 << 16):
            del data
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


@contextlib.contextmanager
def crowd(address: str, *, receive_buffer: int | None = None) -> Iterator[Crowd]:
    """Return connections that are closed when the block ends."""
    clients = Crowd(address, receive_buffer=receive_buffer)
    try:
        yield clients
    finally:
        clients.close()


def counted(exporter: Exporter, name: str, label: str) -> dict[str, float]:
    """Return the values of a family by one of its labels."""
    return {
        sample.labels[label]: sample.value
        for family in text_string_to_metric_families(exporter.page().decode())
        for sample in family.samples
        if sample.name == f"modelhost_{name}"
    }
