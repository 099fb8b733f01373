"""Servers, the guide to response times, the table of models and the banner, in a real browser."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Page, expect

from tests.page.messages import GIB, START, gpu, hour, message, model, server
from tests.support.programs import DEADLINE_SECONDS, wait_until

if TYPE_CHECKING:
    from tests.page.conftest import OpenPage, Serve


def test_without_a_server_the_page_says_what_to_do(serve: Serve, open_page: OpenPage) -> None:
    """One that is found later replaces the text."""
    feed = serve(message())
    page = open_page(feed.url)
    expect(page.get_by_text("No model server runs on this machine")).to_be_visible()
    feed.send(message(START + 2, servers=[server("ollama")]))
    expect(page.get_by_text("No model server runs on this machine")).to_be_hidden()
    expect(page.locator("#server-list li")).to_have_count(1)


def test_a_found_engine_is_shown_with_its_models_and_the_way_to_response_times(
    serve: Serve, open_page: OpenPage
) -> None:
    """Kind, version, address and loaded models; the flag can be copied."""
    models = [{**model("llama"), "server": "ollama", "id": "ollama/llama", "loaded": True}]
    page = open_page(serve(message(servers=[server("ollama")], models=models)).url)
    row = page.locator("#server-list li")
    expect(row).to_contain_text("0.13.5 · 127.0.0.1:11434")
    expect(row).to_contain_text("1 model loaded")
    expect(page.locator("#guide")).to_be_visible()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#guide .copy").click()
    expect(page.locator("#guide .copy")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "--proxy=auto"


def test_a_proxied_server_has_text_for_each_client(serve: Serve, open_page: OpenPage) -> None:
    """With the address of the proxy; one that listens on every address is reached on the page's host."""
    servers = [
        server("ollama", proxyAddress="127.0.0.1:21434"),
        server("vllm", kind="vllm", proxyAddress=":18000", requestsRunning=2, requestsWaiting=3),
    ]
    page = open_page(serve(message(servers=servers)).url)
    expect(page.locator("#guide")).to_be_hidden()
    first, second = page.locator("#server-list li").all()
    first.locator("summary").click()
    snippets = first.locator("dd code").all_inner_texts()
    assert "OLLAMA_HOST=127.0.0.1:21434 ollama run MODEL" in snippets
    assert 'OpenAI(base_url="http://127.0.0.1:21434/v1", api_key="none")' in snippets
    assert "ANTHROPIC_BASE_URL=http://127.0.0.1:21434" in snippets
    assert any(text.startswith("curl http://127.0.0.1:21434/v1/chat/completions") for text in snippets)
    expect(second).to_contain_text("2 running · 3 waiting")
    second.locator("summary").click()
    assert "OPENAI_API_BASE_URL=http://127.0.0.1:18000/v1" in second.locator("dd code").all_inner_texts()


def test_the_demo_has_no_guide(serve: Serve, open_page: OpenPage) -> None:
    """Its servers cannot be reached."""
    page = open_page(serve(message(demo=True, servers=[server("ollama")])).url)
    expect(page.locator("#server-list li")).to_be_visible()
    expect(page.locator("#guide")).to_be_hidden()


def test_the_table_has_a_row_for_each_model_and_selects_one(serve: Serve, open_page: OpenPage) -> None:
    """By mouse and by keyboard; a model that is gone leaves."""
    big, small = model("big"), model("small")
    feed = serve(message(models=[big, small]))
    page = open_page(feed.url)
    rows = page.locator("#model-rows tr")
    expect(rows).to_have_count(2)
    expect(page.locator("#model")).to_have_value("chat/big")
    rows.nth(1).locator("td").nth(3).click()
    expect(page.locator("#model")).to_have_value("chat/small")
    expect(rows.nth(1).get_by_role("button")).to_have_attribute("aria-pressed", "true")
    rows.nth(0).get_by_role("button").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#model")).to_have_value("chat/big")
    page.locator("#model").select_option("chat/small")
    expect(rows.nth(0).get_by_role("button")).to_have_attribute("aria-pressed", "false")
    feed.send(message(START + 2, models=[small]))
    expect(rows).to_have_count(1)
    feed.send(message(START + 4))
    expect(page.locator("#model-frame")).to_be_hidden()


def cells(page: Page, row: int = 0) -> dict[str, str]:
    """Return the texts of a row of the table by the names of its cells."""
    found = page.locator("#model-rows tr").nth(row).locator("[data-cell]").all()
    texts = {str(cell.get_attribute("data-cell")): cell.inner_text() for cell in found}
    return {name: " ".join(text.replace("\u202f", " ").split()) for name, text in texts.items()}


def test_the_table_shows_what_a_model_does_now(serve: Serve, open_page: OpenPage) -> None:
    """Errors above 5 % are red; what is not known is a dash."""
    shown = model(
        "m", requestsPerSecond=3.5, timeToFirstToken=420.0, tokensPerSecond=87.0, successRate=90.0, inFlight=4
    )
    nothing = {**dict.fromkeys(model("x")), "id": "chat/x", "model": "x", "server": "chat"}
    page = open_page(serve(message(models=[shown, nothing])).url)
    assert cells(page) == {
        "server": "chat",
        "loaded": "loaded",
        "memory": "5.60 GiB VRAM + 819 MiB RAM",
        "context": "128k KV 42.0 %",
        "rate": "3.50 /s",
        "inFlight": "4",
        "queue": "2",
        "firstToken": "420 ms",
        "tokens": "87.0 tok/s",
        "last": "58.0 tok/s",
        "errors": "10.0 %",
    }
    assert page.locator("#model-rows td[data-is=alarm]").get_attribute("data-cell") == "errors"
    unknown = cells(page, 1)
    assert (unknown.pop("server"), unknown.pop("loaded"), set(unknown.values())) == ("chat", "", {"\u2013"})


@pytest.mark.parametrize(
    ("total", "on_gpu", "text"),
    [
        (8, 8, "8.00 GiB VRAM"),
        (8, 0, "8.00 GiB RAM"),
        (8, None, "8.00 GiB"),
        (8, 6, "6.00 GiB VRAM + 2.00 GiB RAM"),
        (0, None, "–"),
    ],
)
def test_memory_on_gpus_and_of_the_host(
    serve: Serve, open_page: OpenPage, total: int, on_gpu: int | None, text: str
) -> None:
    """One number where all of it is in one place, or the server does not report where."""
    sizes = {"memoryUsage": total * GIB, "gpuMemoryUsage": None if on_gpu is None else on_gpu * GIB}
    page = open_page(serve(message(models=[model("m", **sizes)])).url)
    assert cells(page)["memory"] == text


def test_the_numbers_before_a_pause_stay_grey_with_their_age(serve: Serve, open_page: OpenPage) -> None:
    """Rates are 0; with the next request everything is as before."""
    none = dict.fromkeys(
        ("requestsPerSecond", "recentRequests", "eligibleRequests", "avgResponseTime", "successRate"), 0
    )
    last = {**dict.fromkeys(("p50", "p95", "p99")), "secondsAgo": 312.0, "avgResponseTime": 812.0}
    last |= {"timeToFirstToken": 88.0, "successRate": 92.0}
    idle = model("m", **none, timeToFirstToken=None, tokensPerSecond=0.0, last=last)
    feed = serve(message(models=[idle]))
    page = open_page(feed.url)
    shown = cells(page)
    names = ("loaded", "rate", "firstToken", "tokens", "last", "errors")
    assert [shown[name] for name in names] == ["loaded idle 5 min", "0 /s", "88 ms", "0 tok/s", "58.0 tok/s", "8.0 %"]
    expect(page.locator("#model-rows .past")).to_have_count(3)
    assert page.locator("#model-rows td[data-is=alarm]").count() == 0
    feed.send(message(START + 2, models=[model("m")]))
    expect(page.locator("#model-rows .past")).to_have_count(0)
    assert cells(page)["loaded"] == "loaded"


def test_a_line_shows_the_last_ten_minutes(serve: Serve, open_page: OpenPage) -> None:
    """From the history at first; it goes on with messages, and its text has the numbers."""
    feed = serve(
        message(START + 2, models=[model("m"), model("new", tokensPerSecond=None)]), hour(START, models=("m",))
    )
    page = open_page(feed.url)
    line = page.locator("#model-rows tr").nth(0).locator("svg")
    points = line.locator("polyline")
    expect(points).to_have_attribute("points", re.compile(r"^0\.0,\d+\.\d( \d+\.\d,\d+\.\d){39}$"))
    wait_until(lambda: len(set(re.findall(r",(\S+)", points.get_attribute("points") or ""))) > 5, "it has waves")
    before = points.get_attribute("points")
    text = line.locator("title")
    expect(text).to_have_text(re.compile(r"^Output of the last 10 min: up to \d+.tok/s, now \d+.tok/s$"))
    feed.send(message(START + 62, models=[model("m", tokensPerSecond=900.0), model("new", tokensPerSecond=None)]))
    expect(page.locator("[data-model=tokensPerSecond]")).to_contain_text("900")
    feed.send(message(START + 80, models=[model("m", tokensPerSecond=900.0), model("new", tokensPerSecond=None)]))
    expect(text).to_have_text(re.compile("up to 900.tok/s"))
    assert points.get_attribute("points") != before
    expect(page.get_by_role("img", name="Requests of the last 10 min")).to_have_count(1)


@pytest.mark.parametrize("width", [390, 1366, 1920])
def test_thirty_models_with_names_of_all_kinds(serve: Serve, open_page: OpenPage, width: int) -> None:
    """Nothing is wider than the screen, every number is inside the table, and names that run from right to left do."""
    names = [
        *(f"organisation-{n}/model-{n}-Instruct-GGUF:Q4_K_M" for n in range(27)),
        "a" * 300,
        "מודל:7b",
        "نموذج:70b",
    ]
    page = open_page(
        serve(message(models=[model(name) for name in names])).url, viewport={"width": width, "height": 900}
    )
    expect(page.locator("#model-rows tr")).to_have_count(30)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    frame = page.locator("#model-frame")
    assert frame.evaluate("frame => frame.scrollWidth - frame.clientWidth") <= 0
    right_to_left = page.locator("#model-rows button").nth(28)
    assert right_to_left.evaluate("button => getComputedStyle(button).direction") == "rtl"
    titles = (
        page.locator("#model-rows tr")
        .nth(0)
        .locator("[data-title]")
        .evaluate_all("cells => cells.map((cell) => getComputedStyle(cell, '::before').content)")
    )
    assert all((title != "none") == (width == 390) for title in titles)


def test_what_is_broken_is_on_top_and_in_the_title(serve: Serve, open_page: OpenPage) -> None:
    """A missing GPU, a server that does not respond, disks; all of it leaves when it is over."""
    down = server("ollama", up=False)
    disks = [("/", "full"), ("/data", "read_only"), ("/nfs", "silent")]
    troubles = [{"mountpoint": mountpoint, "problem": problem} for mountpoint, problem in disks]
    feed = serve(message(gpusMissing=1, servers=[down], diskTroubles=troubles, memoryUsage=97.0))
    page = open_page(feed.url)
    banner = page.locator("#trouble")
    expect(banner).to_have_text(
        "1 GPU is missing · ollama does not respond · / is full · /data has become read-only · /nfs does not respond"
        " · memory is nearly full"
    )
    expect(page).to_have_title("▲ 1 GPU is missing · 5.40\u202freq/s · workbench")
    expect(page.locator("#server-list li")).to_contain_text("does not respond")
    silent: dict[str, Any] = {
        **dict.fromkeys(gpu(0)),
        "id": "0",
        "state": "silent",
        "memoryUsers": [],
        "throttledBy": [],
    }
    feed.send(message(START + 2, gpus=[silent]))
    expect(banner).to_have_text("GPU 0 does not respond")
    feed.send(message(START + 4, servers=[server("ollama")]))
    expect(banner).to_be_hidden()
    expect(page).to_have_title("5.40\u202freq/s · workbench")


def test_the_title_has_live_numbers_also_in_a_hidden_tab(serve: Serve, open_page: OpenPage) -> None:
    """Requests and tokens of all models; without them the name of the program."""
    feed = serve(message(models=[model("m"), model("n", tokensPerSecond=None)]))
    page = open_page(feed.url)
    expect(page).to_have_title("5.40\u202freq/s · 214\u202ftok/s · workbench")
    page.evaluate("Object.defineProperty(document, 'hidden', { get: () => true })")
    quiet = {**message()["apiStats"], "requestsPerSecond": 0.0}
    feed.send(message(START + 2, apiStats=quiet, models=[model("m", tokensPerSecond=0.0)]))
    expect(page).to_have_title("workbench · modelhost-exporter")
    expect(page.locator("[data-show=requestRate]")).to_contain_text("5.40")


def test_a_lost_connection_is_in_the_banner_and_the_title(serve: Serve, open_page: OpenPage) -> None:
    """With the time of the numbers that are shown; the next message replaces it."""
    feed = serve(message())
    page = open_page(feed.url, losing=True)
    feed.close()
    expect(page.locator("#trouble")).to_contain_text("Not connected: these numbers are from ")
    expect(page).to_have_title("▲ not connected · workbench · modelhost-exporter")
    serve(message(START + 2), port=int(feed.url.rpartition(":")[2]))
    expect(page.locator("#trouble")).to_be_hidden(timeout=DEADLINE_SECONDS * 1000)
    expect(page).to_have_title("5.40\u202freq/s · workbench")


def test_names_of_servers_are_never_markup(serve: Serve, open_page: OpenPage) -> None:
    """Nor are kinds, versions and addresses."""
    name = '<img src=x onerror="document.body.dataset.broken=1">'
    page = open_page(serve(message(servers=[server(name, kind=name, version=name, proxyAddress=f"{name}:1")])).url)
    expect(page.locator("#server-list strong")).to_have_text(name)
    assert page.locator("main img").count() == 0
    assert page.locator("body").get_attribute("data-broken") is None
