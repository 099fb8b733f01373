"""File descriptors run short: the web port keeps responding, and the proxy reports a fault of its own."""

from __future__ import annotations

import asyncio
import http.client
import json
import queue
import resource
import sys
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.faults.crowd import counted, crowd, many_descriptors
from tests.faults.observed import STREAM_PATH, Resources, proxy_address, scraped, wait_until_normal
from tests.support.programs import DEADLINE_SECONDS, Exporter, installed, running, wait_until
from tests.support.stand_in import standing_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REQUEST = (
    f"POST {STREAM_PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
).encode()
EVENT = b'data: {"model":"tiny","choices":[{"index":0,"delta":{"content":"word "}}]}\n\n'
LIMIT = 1024


@contextmanager
def limited(*arguments: str, soft: int = LIMIT, hard: int = LIMIT) -> Iterator[Exporter]:
    """Start an exporter with this limit on descriptors."""

    class Limited(Exporter):
        command = (installed("prlimit"), f"--nofile={soft}:{hard}", sys.executable, "-m", "modelhost_exporter")

    exporter = Limited(*arguments)
    with running(exporter):
        yield exporter


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Raise this process's limit on descriptors to what the tests need."""
    with many_descriptors(2500):
        yield


@contextmanager
def silent_streams() -> Iterator[str]:
    """Serve the beginning of a stream to each request, without an end; yield the server's URL."""
    started: queue.SimpleQueue[tuple[str, Callable[[], object]]] = queue.SimpleQueue()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + EVENT)
            while await reader.read(4096):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass  # a client that left
        finally:
            writer.close()

    async def serve() -> None:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        started.put((url, partial(loop.call_soon_threadsafe, stopped.set)))
        await stopped.wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    url, stop = started.get(timeout=DEADLINE_SECONDS)
    try:
        yield url
    finally:
        stop()
        thread.join(DEADLINE_SECONDS)


def lines_about_descriptors(exporter: Exporter) -> list[str]:
    """Return the log lines about descriptors."""
    return [line for line in exporter.lines if "descriptors are short" in line or "accept" in line]


def test_the_soft_limit_is_raised() -> None:
    """It is raised to the hard limit, and both are exported."""
    with limited(soft=256, hard=4096) as exporter:
        assert counted(exporter, "process_descriptor_limit", "type") == {"soft": 4096, "hard": 4096}
        assert b"\nprocess_max_fds 4096.0\n" in exporter.page()


@pytest.mark.usefixtures("descriptors")
def test_idle_connections_to_the_proxy_leave_room() -> None:
    """The oldest idle connections of 2,000 are closed, so that requests are proxied and scrapes served."""
    with (
        standing_in({"/v1/models": b"{}"}) as server,
        limited(f"--proxy=s=127.0.0.1:0={server.url}") as exporter,
    ):
        before = Resources.of(exporter)
        address = proxy_address(exporter, "s")
        with scraped(exporter), crowd(address) as clients:
            clients.join(2000)
            connection = http.client.HTTPConnection(address, timeout=DEADLINE_SECONDS)
            connection.request("GET", "/v1/models")
            assert connection.getresponse().read() == b"{}"
            connection.close()
            assert Resources.of(exporter).descriptors < LIMIT - 100
            wait_until(lambda: clients.closed() >= 1000, "the first ones are closed")
            assert counted(exporter, "proxy_connections_closed_total", "reason")["descriptors"] >= 1000
        wait_until_normal(exporter, before)
        assert len(lines_about_descriptors(exporter)) == 1


@pytest.mark.usefixtures("descriptors")
def test_streams_beyond_the_limit_are_the_fault_of_the_proxy() -> None:
    """Of 700 streams those within the limit run; each other one gets a 503, counted as the proxy's own error."""
    with silent_streams() as url, limited(f"--proxy=s=127.0.0.1:0={url}") as exporter:
        before = Resources.of(exporter)
        with scraped(exporter), crowd(proxy_address(exporter, "s")) as clients:
            clients.join(700, REQUEST)
            heads: dict[int, bytes] = {}

            def all_answered() -> bool:
                for number, client in enumerate(clients.sockets):
                    if number in heads:
                        continue
                    try:
                        heads[number] = client.recv(4096)[:12]
                    except BlockingIOError:
                        continue
                    except OSError:
                        heads[number] = b""
                return len(heads) == 700

            wait_until(all_answered, "each stream is answered or closed")
            streams, refused = (sum(head.endswith(status) for head in heads.values()) for status in (b"200", b"503"))
            assert streams >= 300
            assert streams + refused + sum(not head for head in heads.values()) == 700
            outcomes = counted(exporter, "requests_total", "outcome")
            assert set(outcomes) <= {"proxy_error", "client_disconnect"}
            closed = counted(exporter, "proxy_connections_closed_total", "reason")["descriptors"]
            assert 700 - streams <= outcomes.get("proxy_error", 0) + closed
            assert sum(counted(exporter, "process_descriptor_shortages_total", "operation").values()) > 0
        wait_until_normal(exporter, before)
        assert len(lines_about_descriptors(exporter)) == 1


@pytest.mark.usefixtures("descriptors")
def test_connections_to_the_web_port_leave_room_for_files() -> None:
    """Connection limits above the descriptor limit leave descriptors free for the files that a scrape opens."""
    caps = ("--web.max-connections=5000", "--web.max-connections-per-address=5000", "--web.header-timeout=10m")
    with limited(*caps, soft=256, hard=256) as exporter:
        before = Resources.of(exporter)
        with scraped(exporter), crowd(exporter.address) as clients:
            clients.join(1000)
            assert counted(exporter, "web_connections_closed_total", "reason")["descriptors"] >= 700
            assert b"out of file descriptors" not in exporter.page()
        wait_until_normal(exporter, before)
        assert len(lines_about_descriptors(exporter)) == 1
        assert "Too many open files" not in exporter.output()


def test_an_accept_that_fails_is_logged_once() -> None:
    """The event loop reports each attempt; here each is counted, and the listener recovers without a restart."""
    with limited() as exporter:
        before = Resources.of(exporter)
        pid = exporter.process.pid
        # no number but those of the standard streams: others become free when the connection of a scrape is closed
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, LIMIT))
        with crowd(exporter.address) as clients:
            clients.join(10, b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n")
            exporter.wait_for_message("file descriptors are short")
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
        wait_until(lambda: b"collector_success" in exporter.page(), "pages again")
        assert counted(exporter, "process_descriptor_shortages_total", "operation")["accept"] > 0
        assert len(exporter.lines) < 20
        assert not [line for line in exporter.lines if "socket.accept" in line]
        assert json.loads(lines_about_descriptors(exporter)[0])["level"] == "warning"
        wait_until_normal(exporter, before)
