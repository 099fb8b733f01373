"""Draw the live page's icons from its ``favicon.svg`` in Chromium, after it changed: ``python -m tools.make_icons``."""

from __future__ import annotations

import os
import re
import shutil

from playwright.sync_api import sync_playwright

from modelhost_exporter.page import STATIC

SIZES = (192, 512)
SAFE = 0.8
"""The part of a maskable icon that every mask shows, in its middle."""


def drawings() -> dict[str, str]:
    """Return the SVG of each kind of icon by the beginning of its file's name."""
    icon = (STATIC / "favicon.svg").read_text(encoding="utf-8")
    square = icon.replace('rx="8"', "")
    background, symbol = re.findall(r"<(?:rect|path)[^>]*/>", square)
    shift = 16 * (1 - SAFE)
    smaller = f'<g transform="translate({shift} {shift}) scale({SAFE})">{symbol}</g>'
    return {"icon": icon, "icon-maskable": square.replace(background + symbol, background + smaller)}


def main() -> None:
    """Write a PNG of each kind and size."""
    with sync_playwright() as playwright:
        program = shutil.which("chromium") or shutil.which("google-chrome")
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        for name, svg in drawings().items():
            for size in SIZES:
                page = browser.new_page(viewport={"width": size, "height": size})
                page.set_content(f"<style>body {{ margin: 0 }} svg {{ display: block; width: 100vw }}</style>{svg}")
                page.screenshot(path=STATIC / f"{name}-{size}.png", omit_background=True)
                page.close()
        browser.close()


if __name__ == "__main__":
    main()
