"""Cost of the live page in Chromium: time to the first picture, and a minute of messages, with an hour of history."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import psutil
from playwright.sync_api import expect, sync_playwright

from tests.page.feed import StandInFeed
from tests.page.messages import INTERVAL, gpu, hour, message, model
from tests.support.programs import installed

if TYPE_CHECKING:
    from playwright.sync_api import Browser, CDPSession

SECONDS = 60
METRICS = ("TaskDuration", "ScriptDuration", "LayoutDuration")
_FIRST_PICTURE = """
(function look() {
  const chart = document.querySelector("[data-chart=cpu]");
  const isDrawn = /last 60 min/.test(chart?.ariaLabel) && chart.querySelector("canvas");
  if (isDrawn) globalThis.firstPicture = performance.now();
  else requestAnimationFrame(look);
})();
"""


class Size(NamedTuple):
    """What a machine has."""

    gpus: int
    models: int


SIZES = (Size(1, 3), Size(8, 3), Size(1, 30))


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


def measure(browser: Browser, size: Size) -> tuple[float, dict[str, float]]:
    """Return the ms to the first picture, and percent of a core by kind of process."""
    now = time.time()
    names = tuple(f"model-{number}" for number in range(size.models))
    feed = StandInFeed(
        message(now, gpus=[gpu(number) for number in range(size.gpus)], models=[model(name) for name in names]),
        hour(now - INTERVAL, size.gpus, names),
    )
    page = browser.new_page(viewport={"width": 1440, "height": 1560})
    page.add_init_script(_FIRST_PICTURE)
    page.goto(feed.url)
    expect(page.locator("#state")).to_have_text("Live")
    page.wait_for_timeout(3000)
    first = page.evaluate("firstPicture")
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    before = {**main_thread(session), **processes()}
    began = time.monotonic()
    for number in range(SECONDS // INTERVAL):
        page.wait_for_timeout(1000 * INTERVAL)
        cards = [gpu(card, 30 + (number * 7 + card) % 60) for card in range(size.gpus)]
        models = [model(name, p50=500 + number, tokensPerSecond=200 + number) for name in names]
        feed.send(message(time.time(), cpuUsage=50 + number, gpus=cards, models=models))
    seconds = time.monotonic() - began
    after = {**main_thread(session), **processes()}
    page.close()
    feed.close()
    return first, {name: 100 * (value - before.get(name, 0)) / seconds for name, value in after.items()}


def main() -> None:
    """Print a line for each size."""
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=installed("chromium"), args=arguments)
        for size in SIZES:
            first, used = measure(browser, size)
            shares = ", ".join(f"{name} {share:.2f} %" for name, share in used.items() if share)
            print(f"{size.gpus} GPU(s), {size.models} models: first picture after {first:.0f} ms;", end=" ")
            print(f"{SECONDS // INTERVAL} messages, of a core: {shares}")
        browser.close()


if __name__ == "__main__":
    main()
