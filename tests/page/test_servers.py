"""Servers, the guide to response times, the table of models and the banner, in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.page.messages import START, file_system, gpu, message, model, server

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


def test_the_table_shows_what_a_model_does_now(serve: Serve, open_page: OpenPage) -> None:
    """Errors above 5 % are red; what is not known is a dash."""
    shown = model(
        "m", requestsPerSecond=3.5, timeToFirstToken=420.0, tokensPerSecond=87.0, successRate=90.0, inFlight=4
    )
    page = open_page(serve(message(models=[shown, {**dict.fromkeys(model("x")), "id": "chat/x", "model": "x"}])).url)
    first, second = (row.locator("td").all_inner_texts() for row in page.locator("#model-rows tr").all())
    cells = [cell.replace("\u202f", " ") for cell in first]
    assert cells[3:7] == ["3.50 /s", "4", "420 ms", "87.0 tok/s"]
    assert page.locator("#model-rows td[data-is=alarm]").inner_text().replace("\u202f", " ").endswith("10.0 %")
    assert set(second[2:]) == {"\u2013"}


def test_what_is_broken_is_on_top_and_in_the_title(serve: Serve, open_page: OpenPage) -> None:
    """A missing GPU, a server that does not respond, a full disk; all of it leaves when it is over."""
    down = server("ollama", up=False)
    feed = serve(message(gpusMissing=1, servers=[down], fileSystems=[file_system("/", 99.4)]))
    page = open_page(feed.url)
    banner = page.locator("#trouble")
    expect(banner).to_have_text("1 GPU is missing · ollama does not respond · the disk is nearly full")
    expect(page).to_have_title("▲ 1 GPU is missing · workbench · modelhost-exporter")
    expect(page.locator("#server-list li")).to_contain_text("does not respond")
    silent = {**dict.fromkeys(gpu(0)), "id": "0", "uuid": "u"}
    feed.send(message(START + 2, gpus=[silent]))
    expect(banner).to_have_text("GPU 0 does not respond")
    feed.send(message(START + 4, servers=[server("ollama")]))
    expect(banner).to_be_hidden()
    expect(page).to_have_title("workbench · modelhost-exporter")


def test_names_of_servers_are_never_markup(serve: Serve, open_page: OpenPage) -> None:
    """Nor are kinds, versions and addresses."""
    name = '<img src=x onerror="document.body.dataset.broken=1">'
    page = open_page(serve(message(servers=[server(name, kind=name, version=name, proxyAddress=f"{name}:1")])).url)
    expect(page.locator("#server-list strong")).to_have_text(name)
    assert page.locator("main img").count() == 0
    assert page.locator("body").get_attribute("data-broken") is None
