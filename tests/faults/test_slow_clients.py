"""Clients of the web port that send slowly, too much or nothing, or do not read, do not affect scrapes."""

from __future__ import annotations

import http.client
import select
import zlib
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.faults.crowd import counted, crowd, many_descriptors
from tests.faults.observed import Resources, scraped, wait_until_normal
from tests.support.programs import DEADLINE_SECONDS, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import StartExporter
    from tests.support.programs import Exporter

CLOSED = "web_connections_closed_total"
GET = b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """Let this process have as many connections as the tests need."""
    with many_descriptors(5000):
        yield


def rss_bytes(exporter: Exporter) -> int:
    """Return the exporter's resident memory."""
    size: int = psutil.Process(exporter.process.pid).memory_info().rss
    return size


def warmed_up(exporter: Exporter) -> Resources:
    """Return the usage of an exporter once its first pages are served."""
    for _ in range(3):
        exporter.page()
    return Resources.of(exporter)


@pytest.mark.parametrize("head", [b"", GET, b"\r\n"], ids=["nothing", "headers", "lines"])
def test_a_head_that_is_never_finished_is_closed(start_exporter: StartExporter, head: bytes) -> None:
    """The time-out covers all headers, however slowly they come; a connection without a byte has the same."""
    exporter = start_exporter("--web.header-timeout=1s", "--web.max-connections-per-address=1000")
    before = warmed_up(exporter)
    with scraped(exporter), crowd(exporter.address) as clients:
        clients.join(400, head)

        def drip() -> bool:
            clients.send(head[-2:])
            return clients.closed() == 400

        wait_until(drip, "every connection is closed", every=0.2)
        assert counted(exporter, CLOSED, "reason")["header_timeout"] == 400
    wait_until_normal(exporter, before)


def test_idle_connections_are_closed(start_exporter: StartExporter) -> None:
    """Between two requests the idle timeout applies, not the one for headers."""
    exporter = start_exporter("--web.idle-timeout=1s")
    before = warmed_up(exporter)
    with scraped(exporter), crowd(exporter.address) as clients:
        clients.join(100, GET + b"\r\n")
        clients.wait_until_closed()
        seen = counted(exporter, CLOSED, "reason")
        assert seen["idle_timeout"] == 100
        assert seen["header_timeout"] == 0
    wait_until_normal(exporter, before)


def test_five_thousand_idle_connections(start_exporter: StartExporter) -> None:
    """Each address has a limit: a new connection replaces the one that has been idle longest."""
    exporter = start_exporter("--web.header-timeout=10m")
    before = warmed_up(exporter)
    with scraped(exporter), crowd(exporter.address) as clients:
        for _ in range(20):
            clients.join(250)
        now = Resources.of(exporter)
        assert now.descriptors <= before.descriptors + 260
        assert counted(exporter, CLOSED, "reason")["address_limit"] >= 4700
    wait_until_normal(exporter, before)


@pytest.mark.parametrize("line", [b"X-A: " + b"a" * 8000 + b"\r\n", b"X-A: " + b"a" * 500 + b"\r\n"])
@pytest.mark.parametrize("end", [b"", b"\r\n"], ids=["unfinished", "finished"])
def test_large_headers_take_no_memory(start_exporter: StartExporter, line: bytes, end: bytes) -> None:
    """Headers above 32 kB get a 431 and are dropped."""
    exporter = start_exporter()
    before = warmed_up(exporter)
    most = [0]
    with scraped(exporter), crowd(exporter.address) as clients:
        for _ in range(10):
            clients.join(25, GET + line * 100 + end)
            most[0] = max(most[0], rss_bytes(exporter))
        clients.wait_until_closed()
        assert counted(exporter, CLOSED, "reason")["too_large_headers"] >= 250
    assert most[0] < before.rss_bytes + (60 << 20)
    wait_until_normal(exporter, before, spare_bytes=40 << 20)


def test_pipelined_requests_take_no_memory(start_exporter: StartExporter) -> None:
    """The limit on headers applies to the sum of all requests that wait on a connection."""
    exporter = start_exporter()
    before = warmed_up(exporter)
    request = GET + (b"X-A: " + b"a" * 8000 + b"\r\n") * 100 + b"\r\n"
    with scraped(exporter), crowd(exporter.address) as clients:
        clients.join(60, request * 32)
        assert rss_bytes(exporter) < before.rss_bytes + (60 << 20)
        clients.wait_until_closed()
    wait_until_normal(exporter, before, spare_bytes=40 << 20)


def test_the_answer_to_large_headers_names_the_limit(start_exporter: StartExporter) -> None:
    """Just below 32 kB is served; above it is refused, with the key that sets the limit."""
    exporter = start_exporter()
    for size, status in ((32_000, 200), (33_000, 431)):
        connection = http.client.HTTPConnection(exporter.address, timeout=10)
        connection.request("GET", "/-/healthy", headers={"X-A": "a" * (size // 2), "X-B": "b" * (size // 2)})
        response = connection.getresponse()
        assert response.status == status
        assert (b"web.max_header_bytes" in response.read()) == (status == 431)
        connection.close()


def test_scrapers_that_do_not_read(start_exporter: StartExporter) -> None:
    """Unsent data is dropped after the send timeout, also if aiohttp has already closed its side."""
    exporter = start_exporter("--demo", "--web.send-timeout=1s", "--web.max-connections-per-address=300")
    before = warmed_up(exporter)
    with scraped(exporter, timeout=10), crowd(exporter.address, receive_buffer=2048) as clients:
        for connection in (b"keep-alive", b"close"):
            for _ in range(20):
                clients.join(1, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: " + connection + b"\r\n\r\n")
                assert select.select(clients.sockets[-1:], [], [], DEADLINE_SECONDS)[0]
        wait_until(lambda: counted(exporter, CLOSED, "reason")["send_timeout"] == 40, "all are closed", every=0.2)
    wait_until_normal(exporter, before, spare_bytes=60 << 20)


def test_bodies_that_do_not_come(start_exporter: StartExporter) -> None:
    """Neither idle nor endless bodies hold a connection, whatever the method."""
    exporter = start_exporter("--web.body-timeout=1s", "--web.max-connections-per-address=1000")
    before = warmed_up(exporter)
    with scraped(exporter), crowd(exporter.address) as clients:
        for number, request in enumerate((b"POST /-/reload", b"POST /metrics", b"GET /-/ready")):
            clients.join(100, request + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\nabc")
            assert len(clients.sockets) == 100 * (number + 1)
        clients.wait_until_closed()
        assert counted(exporter, CLOSED, "reason")["body_timeout"] == 300
    wait_until_normal(exporter, before)


def test_a_body_that_does_not_end(start_exporter: StartExporter) -> None:
    """A client that goes on sending is cut off: no route reads a body."""
    exporter = start_exporter()
    with scraped(exporter), crowd(exporter.address) as clients:
        clients.join(1, b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000000\r\n\r\n")

        def send() -> bool:
            clients.send(bytes(1 << 16))
            return clients.closed() == 1

        wait_until(send, "the connection is closed", every=0.01)
        assert counted(exporter, CLOSED, "reason")["too_large_body"] == 1


def test_a_compressed_body_is_not_inflated(start_exporter: StartExporter) -> None:
    """A few MB that inflate to 4 GB are answered 405 like any other body, while health is answered."""
    exporter = start_exporter()
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packer.compress(b"")
    packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    start = zlib.compressobj(9, zlib.DEFLATED, 31).compress(b"") or b"\x1f\x8b\x08\0\0\0\0\0\x02\xff"
    body = start + block * 4096
    head = "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n"
    with scraped(exporter) as loop, crowd(exporter.address) as clients:
        count = loop.seen.count
        clients.join(3, head.format(len(body)).encode() + body)
        clients.wait_until_closed()
        wait_until(lambda: loop.seen.count > count + 3, "scrapes after it")


def test_a_flood_from_a_viewer_ends_its_connection(start_exporter: StartExporter) -> None:
    """Many short messages at once are not parsed: clients of the live feed have no reason to send them."""
    exporter = start_exporter()
    handshake = (
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    with scraped(exporter), crowd(exporter.address) as clients:
        clients.join(1, handshake)
        wait_until(lambda: select.select(clients.sockets, [], [], 0)[0] != [], "the feed has begun")
        clients.send(b"\x89\x80\0\0\0\0" * 100_000)
        wait_until(lambda: counted(exporter, CLOSED, "reason")["too_large_body"] == 1, "it is closed", every=0.2)
        clients.wait_until_closed()
