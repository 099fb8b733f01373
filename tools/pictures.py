"""Take pictures of every dashboard in a running Grafana: ``python -m tools.pictures URL [FOLDER]``.

Grafana must let viewers in without a password, as that of ``make stack ARGS=--demo`` does. The folder gets a picture
for each dashboard, and a page that shows them and says which version of Grafana drew them.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Sequence

    from playwright.sync_api import Browser, Page, Request

_FOLDER = Path("docs/pictures")
_WIDTH, _TALLEST = 1600, 6000
_RANGE = "from=now-30m&to=now"
_QUIET, _PATIENCE = 6, 240
"""Quarters of a second without a request after which all is drawn, and after which waiting ends anyway."""
_HEIGHT = "() => Math.max(0, ...[...document.querySelectorAll('.react-grid-layout')].map(each => each.scrollHeight))"


class PicturesError(Exception):
    """Pictures cannot be taken; the text says why."""


def main(arguments: Sequence[str]) -> int:
    """Take the pictures; return 0, or 1 with a message where Grafana or Chromium cannot be used."""
    if not arguments or not arguments[0]:
        print("which Grafana? make pictures GRAFANA=http://127.0.0.1:3000", file=sys.stderr)  # noqa: T201 - for a person
        return 1
    try:
        version = take(arguments[0].rstrip("/"), Path(arguments[1]) if len(arguments) > 1 else _FOLDER)
    except PicturesError as error:
        print(error, file=sys.stderr)  # noqa: T201 - for a person
        return 1
    print(f"pictures of Grafana {version}")  # noqa: T201 - for a person
    return 0


def take(grafana: str, folder: Path) -> str:
    """Write the pictures and their page; return Grafana's version. Raises PicturesError."""
    version = str(_get(f"{grafana}/api/health")["version"])
    boards = _get(f"{grafana}/api/search?type=dash-db&tag=modelhost")
    if not boards:
        raise PicturesError(f"{grafana} has none of the dashboards (or requires a password)")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise PicturesError("no chromium found")
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        for board in boards:
            _picture(browser, f"{grafana}{board['url']}", folder / f"{board['uid']}.png")
        browser.close()
    (folder / "README.md").write_text(page(version, boards), encoding="utf-8")
    return version


def page(version: str, boards: Sequence[dict[str, Any]]) -> str:
    """Return the page that shows the pictures, as Markdown."""
    pictures = "\n\n".join(f"## {board['title']}\n\n![{board['title']}]({board['uid']}.png)" for board in boards)
    return f"# Pictures\n\nThe dashboards over the demo, in Grafana {version}.\n\n{pictures}\n"


def _picture(browser: Browser, url: str, file: Path) -> None:
    tab = browser.new_page(viewport={"width": _WIDTH, "height": 1000})
    open_requests: set[Request] = set()
    tab.on("request", lambda request: open_requests.add(request))  # noqa: PLW0108 - Playwright takes no built-in method
    tab.on("requestfinished", lambda request: open_requests.discard(request))  # noqa: PLW0108
    tab.on("requestfailed", lambda request: open_requests.discard(request))  # noqa: PLW0108
    tab.goto(f"{url}?{_RANGE}&kiosk", wait_until="domcontentloaded")
    _wait(tab, open_requests)
    height = min(int(tab.evaluate(_HEIGHT)) + 100, _TALLEST)
    tab.set_viewport_size({"width": _WIDTH, "height": height})  # Grafana loads what is in view
    _wait(tab, open_requests)
    tab.screenshot(path=file)
    tab.close()


def _wait(tab: Page, open_requests: set[Request]) -> None:
    """Wait until no request has been open for a while: then all panels in view are drawn."""
    quiet = 0
    for _ in range(_PATIENCE):
        tab.wait_for_timeout(250)
        quiet = 0 if open_requests else quiet + 1
        if quiet == _QUIET:
            return


def _get(url: str) -> Any:
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:  # noqa: S310 - the address is the user's
            return json.load(reply)
    except (OSError, ValueError) as error:
        raise PicturesError(f"{url}: {error}") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
