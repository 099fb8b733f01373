"""Observe a running exporter from outside while a fault is provoked: scrapes, health, a proxied stream, resources."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.support.programs import DEADLINE_SECONDS, Exporter, wait_until
from tests.support.stand_in import StandIn, standing_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.server import BaseHTTPRequestHandler

SCRAPE_SECONDS = 0.2
_SHORTEST_PAUSE_SECONDS = 0.02
SCRAPE_TIMEOUT_SECONDS = 5.0
HEALTHY_SECONDS = 2.0
"""Twice the time-out of common probes: other tests occupy the processors at the same time."""
CHUNK_SECONDS = 0.02
STREAM_PATH = "/v1/chat/completions"


class Resources(NamedTuple):
    """The resources that an exporter uses at one moment."""

    threads: int
    descriptors: int
    rss_bytes: int
    series: int

    @classmethod
    def of(cls, exporter: Exporter) -> Resources:
        """Return the usage of a running exporter; ``series`` is the number of samples of one page."""
        process = psutil.Process(exporter.process.pid)
        lines = exporter.page().splitlines()
        series = sum(1 for line in lines if line and not line.startswith(b"#"))
        return cls(process.num_threads(), process.num_fds(), process.memory_info().rss, series)

    def is_back_to(self, before: Resources, *, spare: int = 2, spare_bytes: int = 20 << 20) -> bool:
        """Return whether usage is at most that of ``before``, with a small tolerance, and no series is missing."""
        return (
            self.threads <= before.threads + spare
            and self.descriptors <= before.descriptors + spare
            and self.rss_bytes <= before.rss_bytes + spare_bytes
            and self.series >= before.series - spare
        )


def wait_until_normal(exporter: Exporter, before: Resources, *, spare: int = 2, spare_bytes: int = 20 << 20) -> None:
    """Wait until an exporter uses no more than ``before``; fails the test, with both figures, if it does not."""
    last = [before]

    def is_normal() -> bool:
        last[0] = Resources.of(exporter)
        return last[0].is_back_to(before, spare=spare, spare_bytes=spare_bytes)

    try:
        wait_until(is_normal, "normal again", every=0.2)
    except BaseException:
        print(f"before: {before}\nnow:    {last[0]}")  # noqa: T201 - pytest shows it with the failure
        raise


@dataclass
class Scrapes:
    """The results of a scrape loop."""

    count: int = 0
    slowest_seconds: float = 0.0
    slowest_health_seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


class ScrapeLoop:
    """Scrape ``HOST:PORT`` five times a second and query ``/-/healthy``, in a thread, until closed.

    ``timeout`` is the scraper's time-out in seconds. Every scrape that is late, no status 200 or not valid text
    format, and every health check that takes more than two seconds, is a problem.
    """

    def __init__(self, address: str, timeout: float = SCRAPE_TIMEOUT_SECONDS) -> None:
        self.seen = Scrapes()
        self._address = address
        self._timeout = timeout
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scrape-loop", daemon=True)
        self._thread.start()

    def take(self) -> Scrapes:
        """Return the results since the last call, and start new ones."""
        seen, self.seen = self.seen, Scrapes()
        return seen

    def close(self) -> Scrapes:
        """Stop, and return the results since the last call of ``take``."""
        self._closed.set()
        self._thread.join(DEADLINE_SECONDS)
        return self.seen

    def _run(self) -> None:
        while not self._closed.is_set():
            began = round_began = time.monotonic()
            healthy = self._get("/-/healthy", HEALTHY_SECONDS)
            self.seen.slowest_health_seconds = max(self.seen.slowest_health_seconds, time.monotonic() - began)
            began = time.monotonic()
            page = self._get("/metrics", self._timeout)
            self.seen.slowest_seconds = max(self.seen.slowest_seconds, time.monotonic() - began)
            self.seen.count += healthy is not None and page is not None
            if page is not None:
                self._check(page)
            self._closed.wait(max(_SHORTEST_PAUSE_SECONDS, round_began + SCRAPE_SECONDS - time.monotonic()))

    def _get(self, path: str, timeout: float) -> bytes | None:
        host, _, port = self._address.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
        began = time.monotonic()
        try:
            connection.request("GET", path, headers={"X-Prometheus-Scrape-Timeout-Seconds": f"{timeout:g}"})
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.seen.problems.append(f"{path}: {error!r} after {time.monotonic() - began:.2f} s")
            return None
        finally:
            connection.close()
        if response.status != http.client.OK or time.monotonic() - began > timeout:
            self.seen.problems.append(
                f"{path}: {response.status} after {time.monotonic() - began:.2f} s {body[:200]!r}"
            )
            return None
        return body

    def _check(self, page: bytes) -> None:
        try:
            names = [family.name for family in text_string_to_metric_families(page.decode())]
        except ValueError as error:
            self.seen.problems.append(f"not valid: {error}")
            return
        if len(names) != len(set(names)):
            self.seen.problems.append("a family is on the page twice")


class Stream:
    """One streamed reply, read through the exporter's proxy in a thread; measures the gaps between its chunks."""

    def __init__(self, proxy_address: str) -> None:
        self.longest_gap_seconds = 0.0
        self.chunks = 0
        self.error = ""
        self._last = time.monotonic()
        self._closed = threading.Event()
        host, _, port = proxy_address.rpartition(":")
        self._connection = http.client.HTTPConnection(host, int(port), timeout=DEADLINE_SECONDS)
        self._thread = threading.Thread(target=self._run, name="stream", daemon=True)
        self._thread.start()
        wait_until(lambda: self.chunks > 0 or bool(self.error), "the stream has begun")

    def _run(self) -> None:
        body = json.dumps({"model": "tiny", "stream": True, "messages": []})
        try:
            self._connection.request("POST", STREAM_PATH, body, {"Content-Type": "application/json"})
            response = self._connection.getresponse()
            while not self._closed.is_set() and response.read1():
                self._note()
        except (OSError, http.client.HTTPException) as error:
            self.error = repr(error)

    def _note(self) -> None:
        now = time.monotonic()
        if self.chunks:
            self.longest_gap_seconds = max(self.longest_gap_seconds, now - self._last)
        self.chunks, self._last = self.chunks + 1, now

    def is_alive(self) -> bool:
        """Return whether chunks still come."""
        return self._thread.is_alive() and not self.error

    def close(self) -> None:
        """Stop reading."""
        self._closed.set()
        self._thread.join(DEADLINE_SECONDS)
        self._connection.close()


@contextlib.contextmanager
def streamed(exporter: Exporter, server: str, longest_gap_seconds: float = 1.0) -> Iterator[Stream]:
    """Read a proxied stream while the block runs; fails if it has ended, or paused too long."""
    stream = Stream(proxy_address(exporter, server))
    try:
        yield stream
        assert stream.is_alive()
    finally:
        stream.close()
    assert stream.longest_gap_seconds < longest_gap_seconds


def stream_tokens(server: StandIn, handler: BaseHTTPRequestHandler) -> None:
    """Respond with a chat completion that sends one token every 20 ms until the server is closed."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    event = b'data: {"model":"tiny","choices":[{"index":0,"delta":{"content":"word "}}]}\n\n'
    while not server.released.wait(CHUNK_SECONDS):
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
    handler.close_connection = True


@contextlib.contextmanager
def streaming_server() -> Iterator[StandIn]:
    """Serve endless chat completions at ``STREAM_PATH``."""
    with standing_in({}) as server:
        server.pages[STREAM_PATH] = lambda handler: stream_tokens(server, handler)
        yield server


def proxy_address(exporter: Exporter, server: str) -> str:
    """Return HOST:PORT of the proxy's listener for a server, from the log of an exporter that is ready."""
    messages = [json.loads(line) for line in exporter.lines if '"msg": "proxying"' in line]
    return next(str(m["url"]).removeprefix("http://") for m in messages if m["server"] == server)


@contextlib.contextmanager
def scraped(exporter: Exporter, timeout: float = SCRAPE_TIMEOUT_SECONDS) -> Iterator[ScrapeLoop]:
    """Scrape while the block runs; afterwards every scrape must have been in time and valid, and health within 2 s."""
    loop = ScrapeLoop(exporter.address, timeout)
    try:
        wait_until(lambda: loop.seen.count > 0, "the first scrape")
        yield loop
    finally:
        seen = loop.close()
    assert not seen.problems, seen.problems[:5]
    assert seen.count > 0
