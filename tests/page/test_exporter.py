"""The page of a real exporter, under real load, in a real browser."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.gpu.driver import H100, Driver, plug_in
from tests.support.programs import DEADLINE_SECONDS, Exporter, fetch, running, wait_until
from tests.support.readings import Page as Metrics
from tests.support.stand_in import StandIn, reply, standing_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.server import BaseHTTPRequestHandler

    from playwright.sync_api import Page

    from tests.conftest import StartExporter
    from tests.page.conftest import OpenPage

HOSTILE = "<img src=x onerror=alert(1)>"
MIB = 1024**2
RECEIVED, SENT = 2 * MIB, MIB // 2
"""Bytes per second on the machine's network."""

DEADLINE_MS = DEADLINE_SECONDS * 1000


@pytest.fixture
def procfs(tmp_path: Path) -> Iterator[Path]:
    """Return a copy of the machine's /proc with a network interface that always has traffic."""
    folder = tmp_path / "proc"
    (folder / "net").mkdir(parents=True)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() and entry.name != "net":
            (folder / entry.name).symlink_to(entry)
    for entry in Path("/proc/net").iterdir():
        if entry.name != "dev":
            (folder / "net" / entry.name).symlink_to(entry)
    done = threading.Event()
    began = time.monotonic()

    def write() -> None:
        seconds = time.monotonic() - began
        numbers = f"{int(RECEIVED * seconds)} 1 0 0 0 0 0 0 {int(SENT * seconds)} 1 0 0 0 0 0 0"
        new = folder / "net/new"
        new.write_text(f"Inter-| Receive | Transmit\n face |bytes |bytes\n  eth0: {numbers}\n")
        new.rename(folder / "net/dev")

    def keep_writing() -> None:
        while not done.wait(0.1):
            write()

    write()
    thread = threading.Thread(target=keep_writing)
    thread.start()
    yield folder
    done.set()
    thread.join()


@pytest.fixture
def model_server() -> Iterator[StandIn]:
    """Return a model server that serves every model, and disconnects on requests for the model named broken."""

    def chat(handler: BaseHTTPRequestHandler) -> None:
        model = json.loads(server.bodies[-1])["model"]
        usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
        message = {"role": "assistant", "content": "yes"}
        body = {"model": model, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
        status = 500 if model == "broken" else 200
        reply(handler, status, json.dumps(body).encode(), **{"Content-Type": "application/json"})

    with standing_in({"/v1/chat/completions": chat}) as server:
        yield server


@pytest.fixture
def _busy_cpu() -> Iterator[None]:
    """Use one CPU."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        yield
        process.kill()


def ask(exporter: Exporter, *models: str) -> None:
    """Send a request for each model through the exporter's proxy."""
    proxying = next(json.loads(line) for line in exporter.lines if '"msg": "proxying"' in line)
    for model in models:
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "?"}]}).encode()
        headers = {"Content-Type": "application/json"}
        with contextlib.suppress(urllib.error.HTTPError):
            fetch(urllib.request.Request(f"{proxying['url']}/v1/chat/completions", body, headers))  # noqa: S310 - ours


def number(page: Page, name: str) -> float:
    """Return a number of the page, in its unit."""
    text = page.locator(f"[data-show={name}] .number").inner_text().replace(",", "")
    return float(text) if re.fullmatch(r"[\d.]+", text) else float("nan")


@pytest.mark.usefixtures("_busy_cpu")
def test_the_page_shows_the_values_of_the_metrics(
    start_exporter: StartExporter, open_page: OpenPage, procfs: Path, model_server: StandIn
) -> None:
    """Under load all values change and equal those of /metrics, and each model can be selected, whatever its name."""
    exporter = start_exporter(f"--path.procfs={procfs}", f"--proxy=chat=127.0.0.1:0={model_server.url}")
    page = open_page(f"http://{exporter.address}/")
    ask(exporter, *["big"] * 5, "small", "small", "broken", HOSTILE)
    expect(page.locator("[data-show=totalRequests]")).to_have_text("9", timeout=DEADLINE_MS)
    metrics = Metrics(exporter.page().decode())
    by_operation = metrics.by("modelhost_requests_total", "operation", "model", "outcome")
    assert sum(count for (operation, *_), count in by_operation.items() if operation != "other") == 9
    assert number(page, "cores") == metrics.one("modelhost_cpu_logical_cores")
    gib = metrics.one("modelhost_memory_total_bytes") / 1024**3
    assert number(page, "memoryTotal") == pytest.approx(gib, rel=0.01)
    counts = [int(cell.inner_text()) for cell in page.locator("#distribution td:last-child").all()]
    assert sum(counts) == sum(metrics.by("modelhost_request_duration_seconds_count", "model", "operation").values())
    one_cpu = 100 / metrics.one("modelhost_cpu_logical_cores")
    wait_until(lambda: number(page, "cpu") > 0.7 * one_cpu, "a busy CPU is seen")
    wait_until(lambda: 1.8 < number(page, "networkIn") < 2.2, "2 MiB/s come in")
    wait_until(lambda: 460 < number(page, "networkOut") < 570, "512 KiB/s go out")
    select = page.get_by_label("Model", exact=True)
    assert set(select.locator("option").all_inner_texts()) >= {"chat/big", "chat/small", f"chat/{HOSTILE}"}
    assert page.locator("main img").count() == 0
    select.select_option("chat/small")
    expect(page.locator("[data-model=successRate]")).to_have_text("100%")
    ask(exporter, "small")
    expect(page.locator("[data-show=totalRequests]")).to_have_text("10", timeout=DEADLINE_MS)
    expect(page.locator("#cpu .chart canvas")).to_have_count(1)
    page.locator("#recent summary").click()
    expect(page.locator("#recent-rows tr")).to_have_count(10, timeout=DEADLINE_MS)
    expect(page.locator("#recent-rows th").filter(has_text=HOSTILE)).to_have_count(1)


def test_the_page_reconnects_after_a_restart(start_exporter: StartExporter, open_page: OpenPage) -> None:
    """The indicator turns grey when the exporter stops, and the page reconnects soon after the start."""
    exporter = start_exporter()
    page = open_page(f"http://{exporter.address}/", losing=True)
    live = page.locator("#indicator .dot").evaluate("dot => getComputedStyle(dot).backgroundColor")
    exporter.stop()
    expect(page.locator("#state")).to_have_text(re.compile("Not connected since"), timeout=DEADLINE_MS)
    assert page.locator("#indicator .dot").evaluate("dot => getComputedStyle(dot).backgroundColor") != live
    with running(Exporter(f"--web.listen-address={exporter.address}")):
        expect(page.locator("#state")).to_have_text("Live", timeout=DEADLINE_MS)
        page.goto("about:blank")


@pytest.fixture
def driver(tmp_path: Path, standin: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """Return the stand-in driver that exporters load."""
    driver = Driver(standin, tmp_path / "script")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(standin.parent))
    monkeypatch.setenv("STANDIN_SCRIPT", str(driver.script))
    return driver


@pytest.mark.parametrize("count", [1, 8, 16])
def test_gpus_of_a_real_exporter(
    start_exporter: StartExporter, open_page: OpenPage, driver: Driver, count: int
) -> None:
    """Each has a card with the numbers of its driver, its limits and what slows it down."""
    plug_in(driver, count, {**H100, "CurrentClocksEventReasons": 0x4C}, "NVIDIA H100 80GB HBM3")
    page = open_page(f"http://{start_exporter().address}/", viewport={"width": 1920, "height": 1080})
    expect(page.locator("#gpus .card:visible")).to_have_count(count, timeout=DEADLINE_MS)
    assert page.locator("#gpus .name:visible").all_inner_texts() == ["NVIDIA H100 80GB HBM3"] * count
    assert {text.split(" /")[0] for text in page.locator("[data-gpu=power]:visible").all_inner_texts()} == {"650"}
    assert {*page.locator("[data-gpu=temperature]:visible").all_inner_texts()} == {"61 / 87°C"}
    assert {*page.locator("#gpus .note:visible").all_inner_texts()} == {"slowed down by heat, its power limit"}
    assert {*page.locator(".parts dt:visible").all_inner_texts()} == {"unknown", "other"}


def test_a_driver_that_was_replaced(start_exporter: StartExporter, open_page: OpenPage, driver: Driver) -> None:
    """While the exporter runs: the library and the kernel's module are of two versions. Nor is this "no GPU"."""
    plug_in(driver, 1, H100, "NVIDIA H100 80GB HBM3")
    page = open_page(f"http://{start_exporter().address}/")
    expect(page.locator("#gpus .name:visible")).to_have_count(1, timeout=DEADLINE_MS)
    driver.say("-", Init="!18", Count="!18")
    driver.say(0, MemoryInfo_v2="!18", UtilizationRates="!18")
    expect(page.locator("#trouble")).to_contain_text(
        "restart the exporter: the GPU driver was replaced", ignore_case=True, timeout=DEADLINE_MS
    )
    expect(page.get_by_text("No GPU detected")).to_be_hidden()


def test_a_mismatch_at_the_start(start_exporter: StartExporter, open_page: OpenPage, driver: Driver) -> None:
    """The package was updated, and the machine still runs the old module."""
    driver.say("-", Init="!18")
    page = open_page(f"http://{start_exporter().address}/")
    expect(page.locator("#no-gpu")).to_contain_text("The GPU driver was replaced", timeout=DEADLINE_MS)


def test_a_driver_that_fails_is_not_no_gpu(start_exporter: StartExporter, open_page: OpenPage, driver: Driver) -> None:
    """Such as in a container that lost its access."""
    driver.say("-", Init="!999")
    page = open_page(f"http://{start_exporter().address}/")
    expect(page.locator("#no-gpu")).to_contain_text("The GPUs cannot be read: DriverFailed", timeout=DEADLINE_MS)
    expect(page.locator("#trouble")).to_have_text("the GPUs cannot be read", ignore_case=True)


def test_a_card_without_a_driver_is_not_no_gpu(
    start_exporter: StartExporter, open_page: OpenPage, tmp_path: Path
) -> None:
    """The kernel lists the card: the page names what is missing."""
    if Path("/dev/nvidia0").exists():
        pytest.skip("this machine has a GPU")
    card = tmp_path / "bus/pci/devices/0000:01:00.0"
    card.mkdir(parents=True)
    (card / "vendor").write_text("0x10de\n")
    (card / "class").write_text("0x030200\n")
    page = open_page(f"http://{start_exporter(f'--path.sysfs={tmp_path}').address}/")
    expect(page.locator("#no-gpu")).to_contain_text("an NVIDIA GPU is installed but cannot be read")
    expect(page.locator("#no-gpu")).to_contain_text("--gpus all")


def test_the_machine_of_a_real_exporter(start_exporter: StartExporter, open_page: OpenPage) -> None:
    """A cell for each CPU, the operating system and its age, and its processes with their users."""
    exporter = start_exporter()
    page = open_page(f"http://{exporter.address}/")
    cpus = int(Metrics(exporter.page().decode()).one("modelhost_cpu_logical_cores"))
    expect(page.locator("#cores div")).to_have_count(cpus, timeout=DEADLINE_MS)
    expect(page.locator("#system")).to_contain_text(" · up ")
    page.locator("#processes summary").click()
    expect(page.locator("#processes-memory tr")).not_to_have_count(0, timeout=DEADLINE_MS)
    memory = page.locator("#processes-memory")
    expect(memory.locator("th").filter(has_text=re.compile("chrom|modelhost|pytest|python")).first).to_be_visible()
    assert str(exporter.process.args[0]) not in memory.inner_text()  # type: ignore[index]


def test_no_gpu_is_detected(start_exporter: StartExporter, open_page: OpenPage, tmp_path: Path) -> None:
    """The card has a sentence instead of zeros."""
    if Path("/dev/nvidia0").exists():
        pytest.skip("this machine has a GPU")
    page = open_page(f"http://{start_exporter(f'--path.sysfs={tmp_path}').address}/")
    expect(page.get_by_text("No GPU detected")).to_be_visible()
    assert page.locator("#cpu .number").first.inner_text()
