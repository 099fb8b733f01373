"""Nothing that the exporter shows contains a secret: log, metrics, page, API, errors, process title."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from modelhost_exporter.collector import Paths
from modelhost_exporter.live.processes import LinuxProcesses
from tests.support.programs import DEADLINE_SECONDS, fetch, free_port, wait_until
from tests.support.stand_in import reply, standing_in

if TYPE_CHECKING:
    from collections.abc import Sequence
    from http.server import BaseHTTPRequestHandler

    from tests.conftest import StartExporter
    from tests.support.programs import Exporter

MARK = "s3cr3t"
"""Part of every secret of these tests."""
POLLED, CLIENT, QUERY, COOKIE = (f"{name}-{MARK}-{number:04}" for number, name in enumerate(("a", "b", "c", "d")))

PAGES = (
    *("/metrics", "/", "/static/app.js", "/api/models", "/api/history", "/api/requests", "/api/requests?format=csv"),
    *("/api/processes", "/-/healthy", "/-/ready"),
)

CHAT = {"model": "m", "messages": [{"role": "user", "content": f"my password is {MARK}"}]}


def _echo(handler: BaseHTTPRequestHandler) -> None:
    """Refuse a request as a careless server does: with its key in the status line, the headers and the body."""
    given = "; ".join(f"{name}: {value}" for name, value in handler.headers.items())
    handler.send_response(401, f"invalid key: {given}")
    handler.send_header("X-Given", given)
    handler.send_header("Content-Length", str(len(given)))
    handler.end_headers()
    handler.wfile.write(given.encode())


def _redirect(handler: BaseHTTPRequestHandler) -> None:
    reply(handler, 302, b"", Location=f"/elsewhere?key={QUERY}")


def _not_http(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(f"ERROR {handler.headers.get('Authorization')}\r\n\r\n".encode())
    handler.close_connection = True


def _tried(request: str | urllib.request.Request) -> bytes:
    """Return the body of a response; also that of an error."""
    try:
        return fetch(request)
    except urllib.error.HTTPError as error:
        with error:
            return error.read()
    except OSError:
        return b""


def _raw(url: str, request: str) -> bytes:
    """Send bytes as they are and return what comes back until the connection is closed."""
    parts = urlsplit(url)
    received = b""
    with socket.create_connection((parts.hostname or "", parts.port or 0), DEADLINE_SECONDS) as sock:
        sock.sendall(request.encode("latin-1"))
        sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            while block := sock.recv(65536):
                received += block
    return received


_PASSWORD = base64.b64encode(f"user:{CLIENT}".encode()).decode()
_HEADERS = f"Authorization: Bearer {CLIENT}\r\nX-Api-Key: {CLIENT}\r\nCookie: id={COOKIE}\r\n"
WRONG = (
    f"GET /metrics?key={QUERY} HTTP/1.1\r\nHost: a.example\r\nOrigin: http://b.example\r\n{_HEADERS}\r\n",
    f"GET /api/x?key={QUERY} HTTP/1.1\r\nHost: user:{CLIENT}@a.example\r\n{_HEADERS}\r\n",
    f"GET /api/models/metrics?key={QUERY}&model=m HTTP/1.1\r\nHost: 127.0.0.1\r\n{_HEADERS}\r\n",
    f"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic {_PASSWORD}\x01\r\n\r\n",
    f"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization : Bearer {CLIENT}\r\n\r\n",
    f"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Api-Key {CLIENT}\r\n\r\n",
    f"GET /?key={QUERY} HTTP/9.{CLIENT}\r\n\r\n",
    f"GET http://user:{CLIENT}@127.0.0.1/?key={QUERY} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    f"{CLIENT} / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    f"POST /-/reload?key={QUERY} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {MARK}\r\n\r\n",
    f"POST /v1/chat/completions?key={QUERY} HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: {MARK}\r\n{_HEADERS}\r\n",
    f"CONNECT user:{CLIENT}@h:1 HTTP/1.1\r\nHost: 127.0.0.1\r\n{_HEADERS}\r\n",
)
"""Requests that are refused, each with a secret where a message might repeat it."""


def _configured(folder: Path, upstream: str) -> tuple[Path, dict[str, str]]:
    """Write a configuration whose servers have keys; return it with the URL of each proxy."""
    port = urlsplit(upstream).port
    proxies = {name: f"127.0.0.1:{free_port()}" for name in ("echo", "dead")}
    headers = {"Authorization": f"Bearer {POLLED}", "X-Api-Key": POLLED}
    slow = {"interval": "1s", "timeout": "1s"}
    servers = [
        {
            "name": "echo",
            "url": upstream,
            "kind": "vllm",
            "headers": headers,
            "poll": slow,
            "proxy": {"listen": proxies["echo"]},
        },
        {"name": "auto", "url": f"http://localhost:{port}/auto", "headers": headers, "poll": slow},
        {"name": "moved", "url": f"http://127.0.0.1:{port}/moved", "kind": "openai", "headers": headers, "poll": slow},
        {"name": "odd", "url": f"http://127.0.0.1:{port}/odd", "kind": "ollama", "headers": headers, "poll": slow},
        {
            "name": "dead",
            "url": f"http://127.0.0.1:{free_port()}",
            "kind": "openai",
            "headers": headers,
            "poll": slow,
            "proxy": {"listen": proxies["dead"]},
        },
    ]
    file = folder / "config.yaml"
    file.write_text(json.dumps({"servers": servers, "requests": {"recent": True}, "live": {"processes": True}}))
    return file, {name: f"http://{address}" for name, address in proxies.items()}


def _shown(exporter: Exporter) -> dict[str, str]:
    """Return everything that others may see of a running exporter, by where it is seen."""
    base = f"http://{exporter.address}"
    found = {path: _tried(base + path).decode() for path in PAGES}
    with socket.create_connection(("127.0.0.1", int(exporter.address.rpartition(":")[2])), DEADLINE_SECONDS) as sock:
        sock.sendall(b"GET /api/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        events = b""
        while b"\n\n" not in events.partition(b"\r\n\r\n")[2]:
            events += sock.recv(65536)
    found["/api/live"] = events.decode()
    process = Path("/proc", str(exporter.process.pid))
    for name in ("cmdline", "comm", "environ"):
        found[f"/proc/PID/{name}"] = (process / name).read_text(errors="replace")
    found["threads"] = "".join((task / "comm").read_text() for task in (process / "task").iterdir())
    return found


@pytest.mark.parametrize("level", ["debug", "info"])
def test_nothing_secret_is_shown(start_exporter: StartExporter, tmp_path: Path, level: str) -> None:
    """Keys of polls, of clients and of refused requests appear in no log line, page, response or process title."""
    pages = {"/moved/v1/models": _redirect, "/odd/api/ps": _not_http}
    with standing_in({"/v1/chat/completions": _echo, "/metrics": _echo, "/v1/models": _echo, **pages}) as upstream:
        file, proxies = _configured(tmp_path, upstream.url)
        exporter = start_exporter(f"--config.file={file}", f"--log.level={level}", "--web.enable-lifecycle")
        for proxy in proxies.values():
            request = urllib.request.Request(  # noqa: S310 - our own server
                f"{proxy}/v1/chat/completions?key={QUERY}",
                json.dumps(CHAT).encode(),
                {"Authorization": f"Bearer {CLIENT}", "X-Api-Key": CLIENT, "Cookie": f"id={COOKIE}"},
            )
            _tried(request)
        bases = (exporter.url, *proxies.values())
        responses = {f"{request} {base}": _raw(base, request).decode("latin-1") for request in WRONG for base in bases}
        wait_until(lambda: {"/auto/v1/models", "/moved/v1/models", "/odd/api/ps"} <= set(upstream.asked), "polls")
        assert any(POLLED in headers.get("Authorization", "") for headers in upstream.headers), "polls have the key"
        wait_until(lambda: exporter.output().count("model server does not answer") > 4, "failed polls are logged")
        file.write_text(file.read_text().replace(f'"{POLLED}"', f'"{POLLED}\\n"'))
        shown = _shown(exporter)
        shown["error"] = _tried(urllib.request.Request(f"http://{exporter.address}/-/reload", b"")).decode()
        assert "X-Api-Key" in shown["error"], "an invalid configuration is reported"
        exporter.stop()
        shown["log"] = exporter.output()
    assert "byCpu" in shown["/api/processes"]
    assert {where: _around(text) for where, text in {**shown, **responses}.items() if MARK in text} == {}


@pytest.mark.parametrize(
    "command",
    [
        ("bash", "-ec", f"KEY={MARK}; read line"),
        ("sh", "-c", f"KEY={MARK} read line; true"),
        ("perl", "-we", f"my $key = '{MARK}'; <STDIN>"),
        (sys.executable, "-uc", f"key='{MARK}'; input()", "--api-key", MARK),
        ("cat", "-", f"--{MARK}"),
    ],
    ids=lambda command: command[0].rpartition("/")[2],
)
def test_command_lines_of_other_programs_are_not_shown(command: Sequence[str]) -> None:
    """A real process is shown under its program's name, without arguments."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: MARK in Path(f"/proc/{process.pid}/cmdline").read_text() or process.poll() is not None, "it")
        name, _ = LinuxProcesses(Paths).describe(process.pid)
        process.kill()
    assert name
    assert MARK not in name


def test_a_crash_shows_no_values_of_variables(capfd: pytest.CaptureFixture[str]) -> None:
    """The traceback of an uncaught error has lines of code, without what its variables contain."""
    program = """if True:
        import threading
        from modelhost_exporter.config.model import Log
        from modelhost_exporter.logs import formatting as logs
        logs.set_up(Log("debug"))
        logs.log_uncaught_errors()
        def crash(key):
            headers = {"Authorization": key}
            raise KeyError("x")
        key = "".join(map(chr, KEY))
        thread = threading.Thread(target=crash, args=[key])
        thread.start()
        thread.join()
        crash(key)
    """.replace("KEY", str(list(MARK.encode())), 1)
    subprocess.run([sys.executable, "-c", program], check=False, timeout=DEADLINE_SECONDS)
    shown = capfd.readouterr().err
    assert shown.count("Traceback") == 2
    assert MARK not in shown


def _around(text: str) -> str:
    place = text.index(MARK)
    return text[max(0, place - 300) : place + 100]
