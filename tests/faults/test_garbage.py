"""Requests, scrapes and feed clients, failed ones in particular, leave no reference cycles."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.process.garbage import Garbage
from tests.faults.observed import STREAM_PATH
from tests.support.pages import pages
from tests.support.programs import DEADLINE_SECONDS, Program, free_port, running, wait_until
from tests.support.stand_in import cut_off, standing_in, status

if TYPE_CHECKING:
    from http.server import BaseHTTPRequestHandler

    from tests.support.stand_in import StandIn

MANY = 40
FEW = 10
BODY = json.dumps({"model": "tiny", "stream": True, "messages": []})
EVENT = b'data: {"model":"tiny","choices":[{"index":0,"delta":{"content":"word "}}]}\n\n'


def short_stream(handler: BaseHTTPRequestHandler) -> None:
    """Answer with a stream of a few tokens."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(5):
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(EVENT), EVENT))
    handler.wfile.write(b"0\r\n\r\n")


class Load:
    """Every kind of request to one exporter."""

    def __init__(self, program: Program) -> None:
        lines = [json.loads(line) for line in program.lines]
        self._web = next(str(line["url"]).split("/")[2] for line in lines if line["msg"] == "listening")
        self._proxied = {
            str(line["server"]): str(line["url"]).split("/")[2] for line in lines if line["msg"] == "proxying"
        }

    def run(self) -> None:
        """Send one of each."""
        self._send(self._web, "GET", "/metrics")
        self._send(self._web, "GET", "/metrics", headers={"X-Prometheus-Scrape-Timeout-Seconds": "0.001"})
        self._send(self._web, "GET", "/metrics?collect[]=unknown")
        self._send(self._web, "GET", "/nowhere")
        self._send(self._web, "POST", "/-/reload")
        self._send(self._web, "GET", "/api/models/metrics")
        for path in (STREAM_PATH, "/v1/embeddings", "/v1/completions", "/unknown"):
            self._send(self._proxied["alive"], "POST", path, BODY)
        self._send(self._proxied["dead"], "POST", STREAM_PATH, BODY)
        self._send(self._proxied["nameless"], "POST", STREAM_PATH, BODY)
        self._leave(self._web, "GET /api/live")
        self._leave(self._proxied["alive"], f"POST {STREAM_PATH}")

    def _send(self, address: str, method: str, path: str, body: str | None = None, **options: dict[str, str]) -> None:
        host, _, port = address.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=DEADLINE_SECONDS)
        try:
            connection.request(method, path, body, **options)  # type: ignore[arg-type] # headers alone
            connection.getresponse().read()
        except http.client.HTTPException:
            pass  # a reply that was cut off
        finally:
            connection.close()

    def _leave(self, address: str, request: str) -> None:
        """Send a request whose body stays incomplete, wait for the first bytes of the response, and disconnect."""
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), DEADLINE_SECONDS) as client:
            length = "Content-Length: 100\r\n" if request.startswith("POST") else ""
            client.sendall(f"{request} HTTP/1.1\r\nHost: {address}\r\n{length}\r\n".encode())
            if not length:
                client.recv(100)


def start(server: StandIn) -> Program:
    """Start the program with a proxied server that works, one that is down, and one whose name does not resolve."""
    return Program(
        [
            *(sys.executable, "-m", "tests.faults.uncollected", "--log.format=json", "--web.enable-lifecycle"),
            *("--web.listen-address=127.0.0.1:0", f"--proxy=alive=127.0.0.1:0={server.url}"),
            f"--proxy=dead=127.0.0.1:0=http://127.0.0.1:{free_port()}",
            "--proxy=nameless=127.0.0.1:0=http://no-such-host.invalid:1",
        ]
    )


def left(program: Program) -> dict[str, int]:
    """Return the numbers of objects in reference cycles, by type."""
    program.process.send_signal(signal.SIGUSR1)
    found: dict[str, int] = json.loads(program.wait_for_line(lambda line: '"msg": "left"' in line))["left"]
    found.pop("HTTPNotFound", None)  # aiohttp's own cycle: a route of its own for each path that does not exist
    return found


def test_what_fails_leaves_no_growing_number_of_cycles() -> None:
    """After many requests of each kind no more of our objects, errors and frames are in cycles than after one."""
    with standing_in(pages("ollama")) as server:
        server.pages[STREAM_PATH] = short_stream
        server.pages["/v1/embeddings"] = status(500, b'{"error":"broken"}')
        server.pages["/v1/completions"] = cut_off
        with running(start(server)) as program:
            program.wait_for_line(lambda line: '"msg": "ready"' in line)
            load = Load(program)
            load.run()
            before = left(program)
            for _ in range(MANY):
                load.run()
            more: dict[str, int] = {}

            def is_settled() -> bool:
                nonlocal more
                found = left(program)
                more = {kind: count - before.get(kind, 0) for kind, count in found.items()}
                return max(more.values(), default=0) <= FEW

            wait_until(is_settled, "what is under way has ended")
            assert {kind: count for kind, count in more.items() if count > FEW} == {}


class Timer:
    """A clock, and a collection that takes a while."""

    def __init__(self) -> None:
        self.now = 0.0
        self.takes = 0.001
        self.idle = False
        self.collected: list[int] = []

    def collect(self, generation: int) -> None:
        """Collect."""
        self.collected.append(generation)
        self.now += self.takes

    def garbage(self) -> Garbage:
        """Return a collector of this time."""
        return Garbage(lambda: self.idle, self.collect, lambda: self.now)


@pytest.mark.parametrize(
    ("takes", "idle", "seconds", "generations"),
    [
        (0.009, False, 10, [2, 2, 2]),  # short enough for any stream
        (0.020, False, 10, [2, 1, 1]),
        (0.020, True, 10, [2, 2, 2]),
        (0.020, False, 700, [2, 2, 2]),
    ],
)
def test_a_long_collection_waits_for_an_idle_moment(
    takes: float, idle: bool, seconds: float, generations: list[int]
) -> None:
    """After a collection of more than 10 ms only young objects are collected while requests are in flight."""
    timer = Timer()
    timer.takes, timer.idle = takes, idle
    garbage = timer.garbage()
    for _ in range(3):
        garbage.collect()
        timer.now += seconds
    assert timer.collected == generations
