"""From an engine that runs to its model on the page: no step; to a response time: one address."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.page.conftest import browser, open_page  # noqa: F401 - fixtures
from tests.support.programs import fetch

if TYPE_CHECKING:
    from tests.conftest import StartExporter
    from tests.page.conftest import OpenPage
    from tests.real_engines.conftest import RealEngine

CHAT = {"messages": [{"role": "user", "content": "Count to twenty."}], "max_tokens": 60, "stream": True}


def test_a_model_is_on_the_page_and_its_requests_follow(
    llamacpp: RealEngine,
    start_exporter: StartExporter,
    open_page: OpenPage,  # noqa: F811 - a fixture
) -> None:
    """It is found, polled and proxied without configuration; a stream has its times, tokens and a row of its own."""
    exporter = start_exporter("--discovery", "--proxy=auto")
    engine = llamacpp.url.removeprefix("http://")
    while (proxying := exporter.wait_for_message("proxying"))["upstream"] != llamacpp.url:
        pass  # other engines of this machine
    page = open_page(f"http://{exporter.address}/")
    expect(page.locator("#server-list li", has_text=engine)).to_contain_text("1 model loaded")
    row = page.locator("#model-rows tr", has_text=llamacpp.model).first
    expect(row.locator("[data-cell=loaded]")).to_contain_text("loaded")
    expect(row.locator("[data-cell=firstToken]")).to_have_text("–")
    request = urllib.request.Request(
        f"http://{proxying['address']}/v1/chat/completions",
        json.dumps(CHAT).encode(),
        {"Content-Type": "application/json"},
    )
    assert b"[DONE]" in fetch(request)
    expect(row.locator("[data-cell=firstToken]")).to_contain_text("ms")
    expect(row.locator("[data-cell=last]")).to_contain_text("tok/s")
    row.get_by_role("button").click()
    expect(page.locator("[data-model=successRate]")).to_contain_text("100")
    page.locator("#recent summary").click()
    finished = page.locator("#recent-rows tr", has_text=llamacpp.model).first
    expect(finished.locator("[data-cell=outcome]")).to_contain_text("ok")
    expect(finished.locator("[data-cell=output]")).to_have_text("60")
