"""A view with Vue, Element Plus and Chart.js, from npm, runs against the feed and the API as they are."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession, WSMsgType, web
from playwright.sync_api import expect, sync_playwright

from modelhost_exporter.config import model as configuration
from modelhost_exporter.live import routes
from modelhost_exporter.requests.metrics import RequestMetrics
from modelhost_exporter.requests.observation import RequestLabels, RequestObservation, Tokens
from modelhost_exporter.requests.slo import Objectives
from modelhost_exporter.service import Service
from modelhost_exporter.web import origin_check
from tests.page.npm_packages import node_modules
from tests.support.programs import DEADLINE_SECONDS, installed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from playwright.sync_api import Page

VIEW = Path(__file__).parent / "vue_view"
INTERVAL_SECONDS = 0.1
MINUTE = 30
"""Messages of a minute with the usual interval."""
ORIGIN = "http://localhost:5173"
RANGES = 5


class Server:
    """An aiohttp application on a free port of this machine, in a thread of its own."""

    def __init__(self, build: Callable[[], Awaitable[web.Application]]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._start(build), self._loop).result(DEADLINE_SECONDS)

    async def _start(self, build: Callable[[], Awaitable[web.Application]]) -> int:
        self._runner = web.AppRunner(await build(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        port: int = self._runner.addresses[0][1]
        return port

    def call(self, function: Callable[[], object]) -> None:
        """Call a function on the event loop."""
        self._loop.call_soon_threadsafe(function)

    def close(self) -> None:
        """Stop serving."""
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(DEADLINE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE_SECONDS)
        self._loop.close()


class LiveExporter:
    """The feed and the API over the real collectors of this machine, with a short interval."""

    def __init__(self) -> None:
        config = configuration.load(None, {"discovery": False})
        self.service = Service(lambda: config, config)
        self._metrics = RequestMetrics(
            self.service.registry, self.service.request_listeners, running=self.service.running_requests
        )
        self.server = Server(self._build)

    async def _build(self) -> web.Application:
        app = web.Application(middlewares=[origin_check.middleware(self.service)])
        app.router.add_get("/metrics", routes.add_routes(app, self.service, INTERVAL_SECONDS))
        return app

    def request(self, model: str, milliseconds: float, outcome: Any = "ok") -> None:
        """Record a request."""
        observed = RequestObservation(
            RequestLabels("chat", model, "chat"),
            stream=True,
            outcome=outcome,
            code="200" if outcome == "ok" else "500",
            duration=milliseconds / 1e3,
            time_to_first_token=milliseconds / 4e3,
            tokens=Tokens(output=40),
        )
        self.server.call(lambda: self._metrics.record(observed, Objectives()))

    def close(self) -> None:
        """Stop."""
        self.server.close()
        self.service.pollers.close()
        self.service.scrape.close()


@pytest.fixture(scope="module")
def built_view(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the view, built with esbuild."""
    modules, folder = node_modules(), tmp_path_factory.mktemp("view")
    (folder / "index.html").write_bytes((VIEW / "index.html").read_bytes())
    flags = {"__VUE_OPTIONS_API__": "true", "__VUE_PROD_DEVTOOLS__": "false"}
    flags |= {"__VUE_PROD_HYDRATION_MISMATCH_DETAILS__": "false", "process.env.NODE_ENV": '"development"'}
    command: list[str | Path] = [
        *(installed("node"), modules / "esbuild/bin/esbuild", VIEW / "view.js", "--bundle", "--log-level=warning"),
        *(f"--outfile={folder / 'view.js'}", *(f"--define:{name}={value}" for name, value in flags.items())),
    ]
    subprocess.run(command, check=True, timeout=60, env={**os.environ, "NODE_PATH": str(modules)})
    return folder


@pytest.fixture
def exporter() -> Iterator[LiveExporter]:
    """Yield a feed without requests."""
    live = LiveExporter()
    yield live
    live.close()


@pytest.fixture
def site(built_view: Path, exporter: LiveExporter) -> Iterator[Server]:
    """Yield a server of the view that forwards /api and the WebSocket to the exporter."""
    upstream = f"http://127.0.0.1:{exporter.server.port}"

    async def forward(request: web.Request) -> web.StreamResponse:
        headers = {name: request.headers[name] for name in ("Origin", "Accept") if name in request.headers}
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await forward_socket(request, headers)
        async with ClientSession() as session, session.get(f"{upstream}{request.rel_url}", headers=headers) as response:
            return web.Response(body=await response.read(), status=response.status, content_type=response.content_type)

    async def forward_socket(request: web.Request, headers: dict[str, str]) -> web.StreamResponse:
        downstream = web.WebSocketResponse()
        await downstream.prepare(request)
        async with ClientSession() as session, session.ws_connect(f"{upstream}/metrics", headers=headers) as socket:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await downstream.send_str(message.data)
        return downstream

    async def index(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(built_view / "index.html")

    async def build() -> web.Application:
        app = web.Application()
        app.add_routes(
            [
                web.get("/api/{rest:.*}", forward),
                web.get("/metrics", forward),
                web.get("/", index),
                web.static("/", built_view),
            ]
        )
        return app

    server = Server(build)
    yield server
    server.close()


@pytest.fixture
def page(site: Server) -> Iterator[Page]:
    """Yield a page of a browser for which the site is http://localhost:5173; in the end it has no errors."""
    program = installed("chromium", "chromium-browser", "google-chrome")
    arguments = [f"--host-resolver-rules=MAP localhost:5173 127.0.0.1:{site.port}"]
    arguments += ["--no-sandbox"] if os.geteuid() == 0 else []
    complaints: list[str] = []
    with sync_playwright() as playwright, contextlib.ExitStack() as stack:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        stack.callback(browser.close)
        page = browser.new_page(viewport={"width": 1366, "height": 900})
        page.set_default_timeout(DEADLINE_SECONDS * 1000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
        yield page
        page.goto("about:blank")
    assert complaints == []


def await_messages(page: Page, number: int) -> None:
    """Wait for so many further messages."""
    page.wait_for_function("wanted => received >= wanted", arg=page.evaluate("received") + number)


def text(page: Page, name: str) -> str:
    """Return the text of an element, with single spaces."""
    return " ".join(page.locator(f"#{name}").inner_text().split())


@pytest.mark.parametrize("path", ["forwarded", "direct"])
def test_the_view_runs_a_minute_with_and_without_traffic(page: Page, exporter: LiveExporter, path: str) -> None:
    """It shows the numbers of the API, whether its server forwards them or it connects from its own origin."""
    direct = f"?exporter=http://127.0.0.1:{exporter.server.port}/"
    page.goto(f"{ORIGIN}/{direct if path == 'direct' else ''}")
    assert page.evaluate("origin") == ORIGIN
    page.wait_for_function("globalThis.received > 0")
    await_messages(page, MINUTE // 3)
    assert text(page, "api") == "0 requests, 0.0/s, 0 ms, 0.00 % errors"
    assert text(page, "model") == "0.0/s, 0 ms, 0.0 %, 0.0 B"
    for number in range(12):
        exporter.request("llama3.3:70b", 200.0 + number)
        exporter.request("qwen3:8b", 900.0, "ok" if number % 4 else "server_error")
    expect(page.locator("#api")).to_contain_text("24 requests")
    expect(page.locator("#api")).to_contain_text("12.50 % errors")
    await_messages(page, MINUTE // 3)
    page.locator(".el-select").click()
    page.get_by_role("option", name="qwen3:8b").click()
    expect(page.locator("#model")).to_contain_text("900 ms, 75.0 %")
    page.locator(".el-select").hover()
    page.locator(".el-select__clear").click()
    expect(page.locator("#model")).to_contain_text(re.compile(r"553 ms, 87\.5 %"))
    await_messages(page, MINUTE // 3)
    assert re.fullmatch(r"\d+ cores, load \d+\.\d\d", text(page, "cpu"))
    assert re.fullmatch(r"[\d.]+ GB used, [\d.]+ GB available", text(page, "memory"))
    assert page.locator(".range").count() == RANGES
    assert page.evaluate("received") >= MINUTE
