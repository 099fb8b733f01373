"""CPUs, swap, limits, file systems and processes in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from modelhost_exporter.config.model import Config
from modelhost_exporter.live.settings import LiveOptions
from tests.page.messages import GIB, START, file_system, message
from tests.page.test_access import LOW_CONTRAST
from tests.support.programs import wait_until

if TYPE_CHECKING:
    from tests.page.conftest import OpenPage, Serve

CLOSE_PROCESSES = """
() => new Promise((done) => {
  const details = document.querySelector("#processes details");
  details.addEventListener("toggle", done, { once: true });
  details.open = false;
})
"""
PROCESSES = {
    "processes": 412,
    "seconds": 3.0,
    "byCpu": [{"name": "ollama", "user": "ada", "cpu": 387.25, "memory": int(6.5 * GIB)}],
    "byMemory": [
        {"name": "ollama", "user": "ada", "cpu": 387.25, "memory": int(6.5 * GIB)},
        {"name": "<b>x</b>" * 20, "user": "مستخدم", "cpu": 0.0, "memory": 1024},
    ],
}


def test_each_cpu_is_a_cell_in_rows_of_equal_length(serve: Serve, open_page: OpenPage) -> None:
    """On a phone as well, with a text for who does not see them."""
    feed = serve(message())
    page = open_page(feed.url, viewport={"width": 390, "height": 900})
    for step, (count, rows) in enumerate(((2, 1), (16, 1), (32, 1), (48, 2), (128, 4), (384, 12)), 1):
        feed.send(message(START + step, cpuCoreUsage=[0] * (count - 1) + [97]))
        strip = page.get_by_role("img", name=f"Usage of {count} CPUs: 1 above 90 %")
        cells = strip.locator("div")
        expect(cells).to_have_count(count)
        assert (strip.get_attribute("aria-label") or "").endswith(f"the highest is CPU {count - 1} with 97 %")
        tops = cells.evaluate_all("all => all.map((cell) => cell.getBoundingClientRect().top)")
        assert len({*tops}) == rows
        assert {tops.count(top) for top in tops} == {count // rows}
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    colours = cells.evaluate_all("all => all.map((cell) => getComputedStyle(cell).backgroundColor)")
    assert colours[0] != colours[-1]
    cells.last.hover()
    assert cells.last.get_attribute("title") == f"CPU {count - 1}: 97 %"


def test_cells_follow_the_messages(serve: Serve, open_page: OpenPage) -> None:
    """Their number too; without numbers there is no strip."""
    feed = serve(message(cpuCoreUsage=[0, 100]))
    page = open_page(feed.url)
    cell = page.locator("#cores div").first
    before = cell.evaluate("cell => getComputedStyle(cell).backgroundColor")
    feed.send(message(START + 2, cpuCoreUsage=[80, 100, 3]))
    expect(page.locator("#cores div")).to_have_count(3)
    assert page.locator("#cores div").first.evaluate("cell => getComputedStyle(cell).backgroundColor") != before
    feed.send(message(START + 4, cpuCoreUsage=None))
    expect(page.locator("#cores")).to_be_hidden()


def test_limits_of_the_container_and_swap_are_named(serve: Serve, open_page: OpenPage) -> None:
    """Only where they are in force; a machine without swap says so."""
    feed = serve(message(limits={"cpuCores": 2.0, "memoryBytes": 8 * GIB}, swapTotal=0, swapUsed=0))
    page = open_page(feed.url)
    expect(page.locator("#cpu .facts")).to_contain_text("Cores limit of the container")
    expect(page.locator("#memory .facts")).to_contain_text("Total limit of the container")
    expect(page.locator("[data-show=swap]")).to_have_text("none")
    feed.send(message(START + 2))
    expect(page.locator("#cpu .facts")).not_to_contain_text("limit of the container")
    expect(page.locator("[data-show=swap]")).to_have_text("512\u202fMiB / 8GiB")
    expect(page.locator("#cpu-model")).to_have_text("AMD Ryzen 7 9700X 8-Core Processor")


def test_file_systems_are_listed_with_their_models(serve: Serve, open_page: OpenPage) -> None:
    """With their space, and what is wrong."""
    dead = {**file_system("/nas"), "used": None, "total": None, "percent": None}
    systems = [
        file_system("/data", 96.0, models=["Ollama", "Hugging Face"]),
        file_system("/", readOnly=True),
        dead,
        file_system("/snap", readOnly=True),
    ]
    feed = serve(message(fileSystems=systems))
    page = open_page(feed.url)
    texts = [row.inner_text().replace("\u202f", " ").split("\n") for row in page.locator("#file-systems li").all()]
    assert texts[:3] == [
        ["/data", "models: Ollama, Hugging Face", "894 / 930 GiB · 96.0 %"],
        ["/", "read-only", "312 / 930 GiB · 33.5 %"],
        ["/nas", "does not respond"],
    ]
    feed.send(message(START + 2, fileSystems=[file_system("/")]))
    expect(page.locator("#file-systems li")).to_have_count(1)


def test_processes_are_requested_only_while_the_card_is_open(serve: Serve, open_page: OpenPage) -> None:
    """Again and again; not when it is closed."""
    feed = serve(message())
    feed.processes = PROCESSES
    page = open_page(feed.url)
    assert not feed.has_been_asked("/api/processes", 1)
    page.clock.install()
    page.locator("#processes summary").click()
    expect(page.locator("#processes-cpu tr")).to_have_count(1)
    assert page.locator("#processes-cpu tr").first.locator("th, td").all_inner_texts() == [
        *("ollama", "ada", "387\u202f%", "6.50\u202fGiB")
    ]
    assert page.locator("#processes-memory tr").nth(1).locator("th").inner_text() == "<b>x</b>" * 20
    expect(page.locator("#processes-note")).to_have_text("412 processes. 100 % is one CPU.")
    asked = feed.asked.count("/api/processes")
    page.clock.run_for(3000)
    wait_until(lambda: feed.has_been_asked("/api/processes", asked + 1), "they are requested again")
    page.evaluate(CLOSE_PROCESSES)
    asked = feed.asked.count("/api/processes")
    page.clock.run_for(60_000)
    feed.send(message(START + 2, cpuUsage=12.0))
    expect(page.locator("#cpu .value")).to_have_text("12.0%")
    assert feed.asked.count("/api/processes") == asked


def test_a_request_for_processes_ends_with_the_card(serve: Serve, open_page: OpenPage) -> None:
    """Also one that the exporter has not answered yet: its response would start the next one."""
    feed = serve(message())
    page = open_page(feed.url)
    feed.hangs = True
    page.locator("#processes summary").click()
    wait_until(lambda: feed.waiting == 1, "they are requested")
    page.evaluate(CLOSE_PROCESSES)
    wait_until(lambda: feed.waiting == 0, "the request is aborted")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_processes_fit_on_a_phone(serve: Serve, open_page: OpenPage, scheme: str) -> None:
    """With names of any length and direction, readable in both themes."""
    feed = serve(message())
    feed.processes = PROCESSES
    page = open_page(feed.url, viewport={"width": 390, "height": 900}, color_scheme=scheme)
    page.locator("#processes summary").click()
    expect(page.locator("#processes-memory tr")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate(LOW_CONTRAST)["low"] == []


def test_an_error_is_shown_instead_of_processes(serve: Serve, open_page: OpenPage) -> None:
    """As the exporter words it."""
    feed = serve(message())
    feed.processes = {"error": "the processes cannot be read: no permission"}
    page = open_page(feed.url)
    page.locator("#processes summary").click()
    expect(page.locator("#processes-note")).to_have_text("the processes cannot be read: no permission")
    expect(page.locator("#processes-body")).to_be_hidden()


def test_there_is_no_card_where_processes_are_off(serve: Serve, open_page: OpenPage) -> None:
    """By the configuration of the exporter."""
    feed = serve(message())
    feed.service.config = Config(live=LiveOptions(processes=False))
    page = open_page(feed.url)
    expect(page.locator("#processes")).to_be_hidden()
