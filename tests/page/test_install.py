"""Installing the page as an app."""

from __future__ import annotations

import json
import os
import struct
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import sync_playwright

from modelhost_exporter import page as live_page
from tests.page.messages import message
from tests.support.programs import installed
from tools.make_icons import SIZES, drawings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.page.conftest import OpenPage, Serve

_PIXELS_OF_THE_EDGE = """async (source) => {
  const image = new Image();
  image.src = source;
  await image.decode();
  const { width } = image;
  const canvas = Object.assign(document.createElement("canvas"), { width, height: width });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.drawImage(image, 0, 0);
  return [[0, 0], [width - 1, 0], [width / 2, 0]].map(([x, y]) => [...pen.getImageData(x, y, 1, 1).data]);
}"""


def test_chromium_offers_to_install_the_page(serve: Serve, tmp_path: Path) -> None:
    """Its own check finds nothing missing; private windows cannot install anything, so this one has a profile."""
    feed = serve(message())
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    program = installed("chromium", "chromium-browser", "google-chrome")
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(tmp_path, executable_path=program, args=arguments)
        page = context.new_page()
        page.goto(feed.url)
        session = context.new_cdp_session(page)
        assert session.send("Page.getInstallabilityErrors")["installabilityErrors"] == []
        found = session.send("Page.getAppManifest")
        context.close()
    assert found["errors"] == []
    manifest = found["manifest"]
    assert (manifest["display"], manifest["startUrl"], manifest["scope"]) == ("kStandalone", *2 * (f"{feed.url}/",))


def test_every_icon_of_the_manifest_is_there() -> None:
    """PNGs have the size that the manifest gives."""
    manifest = json.loads((live_page.STATIC / "manifest.webmanifest").read_text(encoding="utf-8"))
    for icon in manifest["icons"]:
        data = (live_page.STATIC / icon["src"]).read_bytes()
        if icon["type"] == "image/png":
            assert "{}x{}".format(*struct.unpack(">II", data[16:24])) == icon["sizes"]
    assert {icon.get("purpose") for icon in manifest["icons"]} == {None, "maskable"}


@pytest.mark.parametrize("size", SIZES)
def test_icons_are_those_of_the_favicon(serve: Serve, open_page: OpenPage, size: int) -> None:
    """Round corners, and none in a maskable icon, which is cut to any shape; colours of the drawing."""
    page = open_page(serve(message()).url)
    plain = page.evaluate(_PIXELS_OF_THE_EDGE, f"static/icon-{size}.png")
    masked = page.evaluate(_PIXELS_OF_THE_EDGE, f"static/icon-maskable-{size}.png")
    blue = [0x1D, 0x4E, 0xD8, 255]
    assert [pixel[3] for pixel in plain[:2]] == [0, 0]
    assert plain[2] == blue
    assert masked == [blue] * 3
    assert "#1d4ed8" in drawings()["icon-maskable"]
