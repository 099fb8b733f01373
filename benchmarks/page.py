"""Cost of the live page in Chromium: a minute of messages, after an hour of history."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from typing import TYPE_CHECKING

import psutil
from playwright.sync_api import expect, sync_playwright

from tests.page.feed import StandInFeed
from tests.page.messages import INTERVAL, gpu, hour, message, model
from tests.support.programs import installed

if TYPE_CHECKING:
    from playwright.sync_api import Browser, CDPSession

SECONDS = 60
MODELS = ("llama3.3:70b", "qwen3:32b", "gemma3:4b")
METRICS = ("TaskDuration", "ScriptDuration", "LayoutDuration")


def processes() -> Counter[str]:
    """Return the CPU seconds that the browser's processes have used, by kind."""
    used: Counter[str] = Counter()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            kinds = [word.removeprefix("--type=") for word in process.cmdline() if word.startswith("--type=")]
            for kind in kinds:
                used[f"{kind} process"] += sum(process.cpu_times()[:2])  # type: ignore[assignment] # seconds
    return used


def main_thread(session: CDPSession) -> dict[str, float]:
    """Return the CPU seconds of the page's main thread, as Chromium counts them."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return {metric["name"]: metric["value"] for metric in metrics if metric["name"] in METRICS}


def measure(browser: Browser, gpus: int) -> dict[str, float]:
    """Return percent of a core by kind of process."""
    now = time.time()
    feed = StandInFeed(
        message(now, gpus=[gpu(number) for number in range(gpus)], models=[model(name) for name in MODELS]),
        hour(now - INTERVAL, gpus, MODELS),
    )
    page = browser.new_page(viewport={"width": 1440, "height": 1560})
    page.goto(feed.url)
    expect(page.locator("#state")).to_have_text("Live")
    page.wait_for_timeout(3000)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    before = {**main_thread(session), **processes()}
    began = time.monotonic()
    for number in range(SECONDS // INTERVAL):
        page.wait_for_timeout(1000 * INTERVAL)
        cards = [gpu(card, 30 + (number * 7 + card) % 60) for card in range(gpus)]
        models = [model(name, p50=500 + number) for name in MODELS]
        feed.send(message(time.time(), cpuUsage=50 + number, gpus=cards, models=models))
    seconds = time.monotonic() - began
    after = {**main_thread(session), **processes()}
    page.close()
    feed.close()
    return {name: 100 * (value - before.get(name, 0)) / seconds for name, value in after.items()}


def main() -> None:
    """Print a line for one GPU and one for eight."""
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=installed("chromium"), args=arguments)
        for gpus in (1, 8):
            shares = ", ".join(f"{name} {share:.2f} %" for name, share in measure(browser, gpus).items() if share)
            print(f"{gpus} GPU(s), {SECONDS // INTERVAL} messages, of a core: {shares}")
        browser.close()


if __name__ == "__main__":
    main()
