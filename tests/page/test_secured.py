"""The live page over TLS and with a password, in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import bcrypt
from playwright.sync_api import expect

from tests.support.certificates import Authority

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartExporter
    from tests.page.conftest import OpenPage

HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
POLICY = "http_server_config:\n  headers:\n    Content-Security-Policy: \"default-src 'self' *.test.example.net\"\n"


def test_the_page_is_live_over_tls_with_a_password(
    start_exporter: StartExporter, open_page: OpenPage, tmp_path: Path
) -> None:
    """The feed comes by a WebSocket over TLS (wss), with the password that the browser has for the page."""
    pair = Authority(tmp_path).issue("server")
    file = tmp_path / "web.yml"
    tls = f"tls_server_config:\n  cert_file: {pair.certificate}\n  key_file: {pair.key}\n"
    file.write_text(tls + POLICY + f"basic_auth_users:\n  alice: {HASH}\n")
    exporter = start_exporter(f"--web.config.file={file}")
    page = open_page(
        exporter.url.removesuffix("metrics"),
        http_credentials={"username": "alice", "password": "secret"},
        ignore_https_errors=True,
    )
    sockets: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    page.reload()
    expect(page.locator("body")).to_have_attribute("data-state", "live")
    assert [url.partition(":")[0] for url in sockets] == ["wss"]
