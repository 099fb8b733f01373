"""A log that is not read, closed or on a full disk does not stop the exporter, and clients cannot fill it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.observed import ScrapeLoop, proxy_address, scraped, streaming_server
from tests.support.fakes import samples
from tests.support.programs import DEADLINE_SECONDS, fetch, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import StartExporter
    from tests.support.programs import Exporter as RealExporter

PIPE_BYTES = 4096
RELOADS = 60
"""Each logs some 300 bytes."""
START_LINES = 2
"""Listening and ready."""
ABSENT = re.compile(rb"^modelhost_scrape_collector_available{.*} 0.0$", re.MULTILINE)
STOP_SECONDS = 1.5
"""What lasts ever so long without the fix: 0.3 s for connections, 0.5 s for the log, and a busy machine."""


class Exporter:
    """An exporter whose standard error is a small pipe that is not read after the start."""

    def __init__(self, error: int | None = None, *arguments: str) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.reading, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self.process = subprocess.Popen(
            [
                *(
                    sys.executable,
                    "-m",
                    "modelhost_exporter",
                    f"--web.listen-address={self.address}",
                    "--log.format=json",
                ),
                *("--web.enable-lifecycle", "--collector.disable-defaults", "--collector.load", "--no-discovery"),
                *arguments,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=writing if error is None else error,
        )
        os.close(writing)
        wait_until(self._is_ready, "the exporter is ready")

    def _is_ready(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(fetch(f"http://{self.address}/-/ready"))
        assert self.process.poll() is None
        return False

    def reload(self, times: int) -> None:
        """Reload again and again: each time a line is logged."""
        for _ in range(times):
            fetch(urllib.request.Request(f"http://{self.address}/-/reload", method="POST"))

    def stop_reading(self) -> None:
        """Read what is logged at the start, and close the pipe."""
        read = b""
        while b'"msg": "ready"' not in read:
            read += os.read(self.reading, PIPE_BYTES)
        os.close(self.reading)

    def dropped(self) -> float:
        """Return the number of dropped log messages."""
        return samples(fetch(f"http://{self.address}/metrics"))["modelhost_log_messages_dropped_total", ()]

    def stop(self) -> float:
        """Send SIGTERM and return the seconds until the process had ended."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(DEADLINE_SECONDS)
        return time.monotonic() - began

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError):
            os.close(self.reading)


@contextlib.contextmanager
def started(error: int | None = None) -> Iterator[Exporter]:
    """Start one and end it."""
    exporter = Exporter(error)
    try:
        yield exporter
    finally:
        exporter.close()


@contextlib.contextmanager
def answering(exporter: Exporter) -> Iterator[None]:
    """Scrape while the block runs, and a few more times afterwards; none may fail."""
    loop = ScrapeLoop(exporter.address)
    try:
        yield
        before = loop.seen.count
        wait_until(lambda: loop.seen.count > before + 2 or bool(loop.seen.problems), "scrapes go on")
    finally:
        seen = loop.close()
    assert not seen.problems, seen.problems[:5]


def test_a_log_that_nobody_reads_blocks_neither_scrapes_nor_the_stop() -> None:
    """The pipe is full after a dozen lines; everything is answered, and SIGTERM ends the process."""
    with started() as exporter:
        with answering(exporter):
            exporter.reload(RELOADS)
        assert exporter.stop() < STOP_SECONDS
        assert exporter.process.returncode == 0


def test_a_log_that_is_read_late_is_complete_and_in_order() -> None:
    """Queued lines are written as soon as there is room."""
    with started() as exporter:
        exporter.reload(RELOADS)
        exporter.process.send_signal(signal.SIGTERM)
        with os.fdopen(exporter.reading, "rb") as reader:
            lines = [json.loads(line) for line in reader]
        exporter.process.wait(DEADLINE_SECONDS)
    messages = [line["msg"] for line in lines]
    assert messages[0] == "listening"
    assert messages.count("configuration reloaded") == RELOADS
    assert messages[-1] == "stopping"
    assert [line["ts"] for line in lines] == sorted(line["ts"] for line in lines)


def test_a_reader_that_went_away_ends_nothing() -> None:
    """Writes fail with EPIPE: lines are dropped and counted."""
    with started() as exporter:
        exporter.stop_reading()
        with answering(exporter):
            exporter.reload(5)
        wait_until(lambda: exporter.dropped() == 5, "each line is counted")
        assert exporter.stop() < STOP_SECONDS
        assert exporter.process.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_ends_nothing() -> None:
    """Writes fail with ENOSPC: lines are dropped and counted."""
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with started(full) as exporter:
            with answering(exporter):
                exporter.reload(5)
            wait_until(lambda: exporter.dropped() == START_LINES + 5, "each line is counted")
            assert exporter.stop() < STOP_SECONDS
            assert exporter.process.returncode == 0
    finally:
        os.close(full)


def test_no_standard_error_at_all_ends_nothing() -> None:
    """Started with standard error closed, the exporter never writes to another file with that number."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    command = [sys.executable, "-m", "modelhost_exporter", f"--web.listen-address={address}", "--no-discovery"]
    with subprocess.Popen(["/bin/sh", "-c", 'exec "$@" 2>&-', "sh", *command], stdout=subprocess.DEVNULL) as process:
        try:

            def is_ready() -> bool:
                with contextlib.suppress(OSError):
                    return bool(fetch(f"http://127.0.0.1:{port}/-/ready"))
                return False

            wait_until(is_ready, "the exporter is ready")
            assert samples(fetch(f"http://127.0.0.1:{port}/metrics"))["modelhost_log_messages_dropped_total", ()] >= 2
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE_SECONDS) == 0
        finally:
            process.kill()


def test_a_fatal_error_ends_the_process_where_nobody_reads_why() -> None:
    """An address in use is exit code 1 as ever, with a full pipe as standard error."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    os.write(writing, b"x" * PIPE_BYTES)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [
            sys.executable,
            "-m",
            "modelhost_exporter",
            f"--web.listen-address=127.0.0.1:{taken.getsockname()[1]}",
        ]
        with subprocess.Popen(command, stderr=writing, stdout=subprocess.DEVNULL) as process:
            try:
                assert process.wait(DEADLINE_SECONDS) == 1
            finally:
                process.kill()
                os.close(writing)
                os.close(reading)


def wait_until_states_are_logged(exporter: RealExporter) -> None:
    """Scrape, and wait for the line about each collector that has nothing to measure here: it is written later."""
    absent = len(ABSENT.findall(exporter.page()))
    wait_until(lambda: exporter.output().count('"msg": "collector unavailable"') == absent, "states are logged")


@pytest.mark.parametrize("header", ["1e-9", "0.0000001", "1e-400", "-1", "nan", "9" * 4000])
def test_an_absurd_scrape_timeout_logs_nothing(start_exporter: StartExporter, header: str) -> None:
    """A client's own deadline changes no logged state, however often it is sent."""
    exporter = start_exporter()
    wait_until_states_are_logged(exporter)
    with scraped(exporter):
        before = len(exporter.lines)
        for _ in range(116):
            url = f"{exporter.url}?collect[]=cpu&collect[]=load"
            fetch(urllib.request.Request(url, headers={"X-Prometheus-Scrape-Timeout-Seconds": header}))  # noqa: S310
        # the lines of the first scrape are written by a thread, and may come now
        assert [line for line in exporter.lines[before:] if "collector unavailable" not in line] == []


def test_requests_that_are_no_http_cannot_fill_the_log(start_exporter: StartExporter) -> None:
    """A client's error gets a 400 and no log line; neither does a client that disconnects."""
    exporter = start_exporter("--log.level=info")
    host, _, port = exporter.address.rpartition(":")
    wait_until_states_are_logged(exporter)
    with scraped(exporter):
        before = len(exporter.lines)
        for number in range(100):
            with socket.create_connection((host, int(port)), DEADLINE_SECONDS) as client:
                good = b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n" * (number % 2)
                client.sendall(good + b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nBad Field\x00: 1\r\n\r\n")
                if number % 3:
                    assert client.recv(1000)
        assert exporter.lines[before:] == []


def test_clients_that_leave_cannot_fill_the_log(start_exporter: StartExporter) -> None:
    """Scrapes, proxied streams, viewers and bodies, each cut off a hundred times."""
    with streaming_server() as server:
        exporter = start_exporter(f"--proxy=tiny=127.0.0.1:0={server.url}")
        chat = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        cut_off = {
            exporter.address: (
                b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
                b"GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n",
                b"POST /-/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx",
                b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS handshake
                b"GET / HT",
            ),
            proxy_address(exporter, "tiny"): (
                chat + b'Content-Length: 40\r\n\r\n{"model":"tiny","stream":true,"messages":0}',
                chat + b'Content-Length: 99\r\n\r\n{"model"',
                chat + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            ),
        }
        wait_until_states_are_logged(exporter)
        with scraped(exporter):
            before = len(exporter.lines)
            for address, requests in cut_off.items():
                for request in requests:
                    for number in range(100):
                        _send_and_reset(address, request, wait=number % 2 == 0)
        assert len(exporter.lines) - before < 10, exporter.lines[before:][:10]


def _send_and_reset(address: str, request: bytes, *, wait: bool) -> None:
    """Send a request and reset the connection: at once, or after the first bytes of the response."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), 0.05) as client, contextlib.suppress(OSError):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(request)
        if wait:
            client.recv(100)
