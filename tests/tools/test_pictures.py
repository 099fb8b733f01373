"""``make pictures`` takes a picture of each dashboard of a Grafana; here a stand-in, since none can be installed."""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.programs import installed
from tools import pictures

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PNG = b"\x89PNG"
BOARD = """<div class="react-grid-layout" style="height: 1000px"><div class="react-grid-item">CPU</div>
<script>fetch("/api/ds/query").then(() => document.querySelector(".react-grid-layout").style.height = "2500px")</script>
</div>"""


class StandIn(BaseHTTPRequestHandler):
    """The pages of Grafana that the pictures need."""

    boards: tuple[dict[str, Any], ...] = ({"uid": "modelhost-host", "url": "/d/modelhost-host/host", "title": "Host"},)
    asked: list[str]

    def do_GET(self) -> None:
        """Answer with a dashboard, the list of them, or the version."""
        self.asked.append(self.path)
        pages = {"/api/health": {"version": "12.2.0"}, "/api/search": self.boards}
        body = pages.get(self.path.partition("?")[0], BOARD)
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if body is BOARD else "application/json")
        self.end_headers()
        self.wfile.write((body if isinstance(body, str) else json.dumps(body)).encode())

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@contextlib.contextmanager
def grafana(boards: tuple[dict[str, Any], ...] = StandIn.boards) -> Iterator[tuple[str, list[str]]]:
    """Run the stand-in; yield its address, and the pages that were asked for."""
    asked: list[str] = []
    handler = type("Handler", (StandIn,), {"boards": boards, "asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_a_picture_of_each_dashboard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each has a file with the whole dashboard, and the page names the version of Grafana."""
    installed("chromium", "chromium-browser", "google-chrome")
    with grafana() as (url, asked):
        assert pictures.main([url, str(tmp_path)]) == 0
    assert capsys.readouterr().out == "pictures of Grafana 12.2.0\n"
    picture = (tmp_path / "modelhost-host.png").read_bytes()
    assert picture.startswith(PNG)
    assert (int.from_bytes(picture[16:20]), int.from_bytes(picture[20:24])) == (1600, 2600)
    page = (tmp_path / "README.md").read_text()
    assert "Grafana 12.2.0" in page
    assert "![Host](modelhost-host.png)" in page
    assert any(path.startswith("/d/modelhost-host/host?") and "kiosk" in path for path in asked)


@pytest.mark.parametrize("arguments", [[], [""]])
def test_it_asks_which_grafana(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Without an address there is a line that says how to name one."""
    assert pictures.main(arguments) == 1
    assert "GRAFANA=http://" in capsys.readouterr().err


def test_what_is_no_grafana_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A closed port, and a Grafana without these dashboards, are said in a line, and nothing is written."""
    folder = tmp_path / "pictures"
    with grafana(boards=()) as (url, _):
        assert pictures.main([url, str(folder)]) == 1
    assert "none of the dashboards" in capsys.readouterr().err
    assert pictures.main([url, str(folder)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not folder.exists()
