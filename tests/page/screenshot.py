"""Take the README's picture of the page: ``python -m tests.page.screenshot docs/live-page.png``."""

from __future__ import annotations

import math
import os
import random
import sys
import time
from typing import Any

from playwright.sync_api import expect, sync_playwright

from tests.page.feed import StandInFeed
from tests.page.messages import GIB, INTERVAL, gpu, message, model, server
from tests.support.programs import installed

SIZE = {"width": 1440, "height": 1190}
MODEL = "llama3.3:70b"


class Day:
    """An hour of a machine that serves a model: requests arrive in waves, and all other values follow them."""

    def __init__(self, end: float) -> None:
        self._random = random.Random(7)  # noqa: S311 - a picture
        self.times = [end - INTERVAL * back for back in range(1799, -1, -1)]
        self.load = [self._wave(time - end) for time in self.times]

    def _wave(self, at: float) -> float:
        bursts = math.exp(-(((at + 2700) / 300) ** 2)) + 0.9 * math.exp(-(((at + 150) / 480) ** 2))
        return min(1.0, 0.28 + 0.55 * bursts + 0.05 * math.sin(at / 210))

    def column(self, low: float, high: float, noise: float, smooth: float = 0.92) -> list[float]:
        """Return values between low and high that follow the load, with correlated noise."""
        jitter, values = 0.0, []
        for load in self.load:
            jitter = smooth * jitter + (1 - smooth) * self._random.gauss(0, 4 * noise)
            values.append(max(low * 0.4, low + (high - low) * (load + jitter)))
        return values


def hour(end: float) -> dict[str, Any]:
    """Return the history."""
    day = Day(end)
    quantiles = {
        "p50": day.column(380, 760, 0.06),
        "p95": day.column(1300, 2700, 0.09),
        "p99": day.column(2300, 4700, 0.1),
    }
    return {
        "interval": INTERVAL,
        "timestamps": [round(time * 1000) for time in day.times],
        "series": {
            "cpuUsage": day.column(14, 80, 0.07),
            "memoryUsage": day.column(57, 64, 0.05),
            "networkIn": day.column(0.3e6, 3.4e6, 0.08),
            "networkOut": day.column(0.2e6, 1.3e6, 0.06),
        },
        "gpus": [{"id": "0", "usage": [min(99.0, value) for value in day.column(6, 100, 0.07)]}],
        "models": {f"chat/{MODEL}": {**quantiles, "tokensPerSecond": day.column(30, 460, 0.06)}},
    }


def last(history: dict[str, Any], end: float) -> dict[str, Any]:
    """Return the message that follows the history."""
    series = {name: values[-1] for name, values in history["series"].items()}
    of_model = {name: values[-1] for name, values in history["models"][f"chat/{MODEL}"].items()}
    card = gpu(0, history["gpus"][0]["usage"][-1])
    return message(
        end,
        cpuUsage=series["cpuUsage"],
        memoryUsage=series["memoryUsage"],
        networkStats={"bytesInPerSecond": series["networkIn"], "bytesOutPerSecond": series["networkOut"]},
        gpus=[{**card, "memoryUsed": 61.4 * GIB, "temperature": 67, "powerWatts": 512.0}],
        servers=[server("chat", proxyAddress="127.0.0.1:21434", requestsRunning=4)],
        models=[model(MODEL, **of_model, memoryUsage=41.2 * GIB, gpuMemoryUsage=41.2 * GIB)],
    )


def main(file: str) -> None:
    """Write the picture."""
    end = time.time()
    history = hour(end - INTERVAL)
    feed = StandInFeed(last(history, end), history)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=installed("chromium"), args=["--no-sandbox"] if os.geteuid() == 0 else []
        )
        page = browser.new_page(viewport=SIZE)  # type: ignore[arg-type]
        page.goto(feed.url)
        expect(page.locator("#state")).to_have_text("Live")
        page.wait_for_function("document.querySelectorAll('canvas').length === 6")
        page.wait_for_timeout(1000)  # the pulse is over
        page.screenshot(path=file)
        browser.close()
    feed.close()


if __name__ == "__main__":
    main(sys.argv[1])
