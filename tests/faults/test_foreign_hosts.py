"""Foreign web pages can read and change nothing; scrapes by any host name work where they are allowed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import socketserver
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect, sync_playwright

from modelhost_exporter import page as live_page
from tests.faults.observed import scraped
from tests.support.programs import DEADLINE_SECONDS, Program, free_port, installed, missing, running, wait_until
from tests.support.stand_in import standing_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.server import BaseHTTPRequestHandler

    from playwright.sync_api import Browser

    from tests.conftest import StartExporter
    from tests.support.stand_in import StandIn

ROUTES = (
    "/",
    "/metrics",
    "/-/healthy",
    "/-/ready",
    "/api/live",
    "/api/models",
    "/api/history",
    "/api/requests",
    "/static/app.js",
    "/x",
)
SCRAPES = ("/metrics", "/-/healthy", "/-/ready")
FEED = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: " + "A" * 22 + "==",
)


def ask(address: str, path: str, *fields: str, method: str = "GET", version: str = "1.1") -> tuple[int, str]:
    """Send a request with these raw header lines; return the status and the rest of the response."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), DEADLINE_SECONDS) as client:
        lines = [f"{method} {path} HTTP/{version}", *fields, "Connection: close", "", ""]
        client.sendall("\r\n".join(lines).encode())
        answer = b""
        while (part := client.recv(1 << 16)) and len(answer) < (1 << 14):
            answer += part
            if b"101 Switching" in answer or b"text/event-stream" in answer:
                break
    return int(answer.split()[1]), answer.decode(errors="replace")


def logged(program: Program) -> list[dict[str, Any]]:
    """Return the fields of the log lines about refused requests."""
    return [json.loads(line) for line in program.lines if '"msg": "request refused"' in line]


def test_a_listener_on_loopback_answers_known_hosts_only(start_exporter: StartExporter) -> None:
    """Every route refuses an unknown host name, with a message on how to allow it, and logs that once."""
    exporter = start_exporter("--web.enable-lifecycle")
    with scraped(exporter):
        local = f"{socket.gethostname().partition('.')[0]}.local:1"
        for path in ROUTES:
            status, answer = ask(exporter.address, path, "Host: evil.example:8585")
            assert status == 403, path
            assert "add --web.allowed-host=evil.example to allow it" in answer
            for host in (exporter.address, "localhost:1", "LOCALHOST", "192.168.1.7:9", socket.gethostname(), local):
                assert ask(exporter.address, path, f"Host: {host}")[0] in (200, 404), (path, host)
        assert ask(exporter.address, "/metrics", "Host: evil.example", *FEED)[0] == 403
        assert ask(exporter.address, "/metrics", f"Host: {exporter.address}", *FEED)[0] == 101
    wait_until(lambda: len(logged(exporter)) == 1, "one line")
    assert logged(exporter)[0]["reason"].endswith("add --web.allowed-host=evil.example to allow it")


def test_a_health_checker_without_a_host_is_answered(start_exporter: StartExporter) -> None:
    """HTTP/1.0 requires no Host field; two of them are invalid."""
    exporter = start_exporter()
    for path in SCRAPES:
        assert ask(exporter.address, path, version="1.0")[0] == 200
        assert ask(exporter.address, path, "Host: localhost", "Host: localhost")[0] in (400, 403)
    assert ask(exporter.address, "/", version="1.0")[0] == 403
    assert ask(exporter.address, "/api/models", version="1.0")[0] == 403


@pytest.mark.parametrize(
    "fields",
    [
        ("Origin: http://evil.example",),
        ("Origin: null",),
        ("Origin: http://localhost:3000",),  # may read, and no more
        ("Sec-Fetch-Site: cross-site",),
        ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"),
    ],
)
def test_only_the_own_page_and_no_page_reload(start_exporter: StartExporter, fields: tuple[str, ...]) -> None:
    """POST /-/reload from any other page is refused, and no configuration is read."""
    exporter = start_exporter("--web.enable-lifecycle")
    host, length = f"Host: {exporter.address}", "Content-Length: 0"
    assert ask(exporter.address, "/-/reload", host, length, *fields, method="POST")[0] == 403
    assert "configuration reloaded" not in exporter.output()
    own = f"Origin: http://{exporter.address}"
    assert ask(exporter.address, "/-/reload", host, length, own, method="POST")[0] == 200
    assert ask(exporter.address, "/-/reload", host, length, method="POST")[0] == 200


@contextlib.contextmanager
def listening_everywhere(*arguments: str) -> Iterator[tuple[Program, str]]:
    """Start an exporter on every address; its address on loopback represents one that other machines can reach."""
    port = free_port()
    command = [f"--web.listen-address=:{port}", "--log.format=json", "--no-discovery", *arguments]
    with running(Program([sys.executable, "-m", "modelhost_exporter", *command])) as program:
        program.wait_for_line(lambda line: '"msg": "ready"' in line)
        yield program, f"127.0.0.1:{port}"


def test_scrapes_by_any_name_work_where_other_machines_may_come() -> None:
    """A cluster's service or a tunnel has any name; page, feed, API and reload keep the check."""
    with listening_everywhere("--web.enable-lifecycle") as (_, address):
        for path in ROUTES:
            status, _ = ask(address, path, "Host: exporter.monitoring.svc.cluster.example:8585")
            assert status == (200 if path in SCRAPES else 403), path
        assert ask(address, "/metrics", "Host: exporter.monitoring.svc", *FEED)[0] == 403
        assert ask(address, "/-/reload", "Host: exporter.monitoring.svc", method="POST")[0] == 403
        assert ask(address, "/metrics", "Host: a.example", "Origin: http://evil.example")[0] == 403


def test_strict_host_and_allowed_names_are_flags() -> None:
    """--web.strict-host checks scrapes too; --web.allowed-host and --web.allowed-origin add the names given."""
    flags = ("--web.strict-host", "--web.allowed-host=a.example", "--web.allowed-origin=https://b.example")
    with listening_everywhere(*flags) as (_, address):
        for path in ROUTES[:-1]:
            assert ask(address, path, "Host: c.example")[0] == 403
            assert ask(address, path, "Host: a.example:1234")[0] == 200
        status, answer = ask(address, "/api/models", "Host: a.example", "Origin: https://b.example")
        assert status == 200
        assert "Access-Control-Allow-Origin: https://b.example" in answer
        assert ask(address, "/api/models", "Host: a.example", "Origin: https://c.example")[0] == 403


_TRY = """
async (exporter) => {
  const read = (path, options) => fetch(exporter + path, options).then((r) => r.text()).then(
    (text) => "read " + text.length, () => "refused");
  const socket = new Promise((done) => {
    const feed = new WebSocket(exporter.replace("http", "ws") + "/metrics");
    feed.onmessage = () => done("read");
    feed.onerror = () => done("refused");
  });
  const events = new Promise((done) => {
    const feed = new EventSource(exporter + "/api/live");
    feed.addEventListener("message", () => done("read"));
    feed.onerror = () => done("refused");
  });
  const picture = new Promise((done) => {
    const image = new Image();
    image.onload = () => done("read");
    image.onerror = () => done("refused");
    image.src = exporter + "/static/favicon.svg";
  });
  await fetch(exporter + "/-/reload", { method: "POST", mode: "no-cors" }).catch(() => 0);
  const form = Object.assign(document.createElement("form"), { action: exporter + "/-/reload", method: "post" });
  const frame = Object.assign(document.createElement("iframe"), { name: "hidden" });
  document.body.append(form, frame);
  form.target = "hidden";
  form.submit();
  return {
    api: await read("/api/models"), metrics: await read("/metrics"), page: await read("/"),
    socket: await socket, events: await events, picture: await picture,
  };
}
"""


def _blank(handler: BaseHTTPRequestHandler) -> None:
    body = b"<!doctype html><title>Stranger</title><body>"
    handler.send_response(200)
    handler.send_header("Content-Type", "text/html")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture
def stranger() -> Iterator[StandIn]:
    """Serve an empty page from a foreign origin."""
    with standing_in({"/": _blank}) as server:
        yield server


@pytest.fixture
def browser() -> Iterator[Browser]:
    """Start a browser to which every name ending in ``.example`` is this machine, as after DNS rebinding."""
    if not (live_page.STATIC / live_page.CHART_LIBRARY).exists():
        missing("the charts are not built: pip install --editable .")
    program = installed("chromium", "chromium-browser", "google-chrome")
    arguments = ["--host-resolver-rules=MAP *.example 127.0.0.1", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


def test_a_page_elsewhere_reads_nothing_and_reloads_nothing(
    start_exporter: StartExporter, browser: Browser, stranger: StandIn
) -> None:
    """Neither API, metrics, page, feed nor pictures, and no reload by fetch or form."""
    exporter = start_exporter("--web.enable-lifecycle")
    page = browser.new_page()
    page.goto(stranger.url.replace("127.0.0.1", "evil.example"))
    found = page.evaluate(_TRY, f"http://{exporter.address}")
    assert set(found.values()) == {"refused"}, found
    wait_until(lambda: bool(logged(exporter)), "it is logged")
    assert "configuration reloaded" not in exporter.output()


def test_a_page_whose_name_was_made_to_point_here_reads_nothing(
    start_exporter: StartExporter, browser: Browser
) -> None:
    """DNS rebinding: for the browser it is the page's own origin; only the name in Host differs."""
    exporter = start_exporter("--web.enable-lifecycle")
    page = browser.new_page()
    port = exporter.address.rpartition(":")[2]
    answer = page.goto(f"http://evil.example:{port}/")
    assert answer is not None
    assert answer.status == 403
    for path in ("/metrics", "/api/models", "/-/healthy"):
        assert page.evaluate("path => fetch(path).then((answer) => answer.status)", path) == 403
    assert page.evaluate("() => fetch('/-/reload', { method: 'POST' }).then((answer) => answer.status)") == 403
    assert "configuration reloaded" not in exporter.output()


def test_a_page_on_loopback_reads_the_feed_and_reloads_nothing(
    start_exporter: StartExporter, browser: Browser, stranger: StandIn
) -> None:
    """A dashboard that is being developed on another port."""
    exporter = start_exporter("--web.enable-lifecycle")
    page = browser.new_page()
    page.goto(stranger.url.replace("127.0.0.1", "localhost"))
    found = page.evaluate(_TRY, f"http://{exporter.address}")
    assert re.fullmatch(r"read \d+", found.pop("api"))
    assert found == {"metrics": "refused", "page": "refused", "socket": "read", "events": "read", "picture": "refused"}
    assert "configuration reloaded" not in exporter.output()


class _Forwarder(socketserver.ThreadingTCPServer):
    """Forwards connections, as a mapped port or a tunnel does."""

    daemon_threads = True

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Forwarding)
        self.target = target


class _Forwarding(socketserver.BaseRequestHandler):
    server: _Forwarder

    def handle(self) -> None:
        """Copy both ways until either side ends."""
        with socket.create_connection(self.server.target, DEADLINE_SECONDS) as upstream:
            upstream.settimeout(None)
            threading.Thread(target=_copy, args=[upstream, self.request], daemon=True).start()
            _copy(self.request, upstream)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while part := source.recv(1 << 16):
            target.sendall(part)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


def test_the_page_works_through_another_port_and_from_a_link(
    start_exporter: StartExporter, browser: Browser, stranger: StandIn
) -> None:
    """A container's mapped port or a tunnel: Host has another port than the exporter listens on."""
    host, _, port = start_exporter().address.rpartition(":")
    with _Forwarder((host, int(port))) as forwarder:
        threading.Thread(target=forwarder.serve_forever, daemon=True).start()
        page = browser.new_page()
        page.goto(stranger.url.replace("127.0.0.1", "dashboards.example"))
        url = f"http://localhost:{forwarder.server_address[1]}/"
        page.evaluate("url => { location.href = url; }", url)
        page.wait_for_url(url)
        expect(page.locator("body")).to_have_attribute("data-state", "live", timeout=DEADLINE_SECONDS * 1000)
        page.goto("about:blank")
        forwarder.shutdown()
