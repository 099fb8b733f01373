"""The page on all kinds of screens with all kinds of machines: layout, and accessibility by axe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from playwright.sync_api import expect

from tests.page.layout import faults
from tests.page.messages import GIB, START, file_system, gpu, hour, message, model, server
from tests.page.npm_packages import node_modules

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from tests.page.conftest import OpenPage, Serve

SCREENS: dict[str, dict[str, Any]] = {
    "light": {"width": 1366, "height": 900, "scheme": "light"},
    "dark": {"width": 1366, "height": 900, "scheme": "dark"},
    "phone": {"width": 390, "height": 844, "scheme": "light"},
    "1920": {"width": 1920, "height": 1080, "scheme": "dark"},
}
LONG = "an-organisation-of-some-length/a-model-with-a-name-that-does-not-end-Instruct-v2-GGUF:Q4_K_M-imatrix"
FROM_RIGHT = ("نموذج-لغوي-كبير:70b", "מודל-שפה:8b", "مدل/زبان")


class Machine(NamedTuple):
    """What the page shows."""

    gpus: int
    models: tuple[str, ...]
    host: str = "workbench"
    server: str = "chat"
    demo: bool = False


MACHINES = {
    "nothing": Machine(0, ()),
    "one": Machine(1, ("gemma3:12b",), "workstation", demo=True),
    "rack": Machine(8, tuple(f"llama-{number}b-instruct" for number in range(1, 31))),
    "long names": Machine(
        16, (LONG, LONG.upper(), "small"), "ahostwhosenamegoesonandon" * 4, "a-server-with-a-long-name-02"
    ),
    "from right to left": Machine(2, FROM_RIGHT, "חדר-שרתים", "שרת"),
}


def message_of(machine: Machine, at: float) -> dict[str, Any]:
    """Return a message in which everything is busy."""
    gpus = [
        {
            **gpu(number, 9.0 * number % 100),
            "memoryUsed": (8 + 4 * number) * GIB,
            "memoryUsers": [{"name": name, "bytes": 3 * GIB} for name in (machine.server, "Xorg")],
            "throttledBy": ["hw_thermal", "sw_power_cap"] if number % 3 == 1 else [],
        }
        for number in range(machine.gpus)
    ]
    models = [
        model(name, id=f"{machine.server}/{name}", server=machine.server, tokensPerSecond=1234.5 * number)
        for number, name in enumerate(machine.models)
    ]
    servers = [server(machine.server), server("down", up=False)] if models else []
    folder = f"/srv/{machine.host}/{LONG}" if len(machine.host) > len("a-name-of-usual-length") else "/srv"
    of_models = ["Ollama", "Hugging Face", "llama.cpp", "LM Studio"]
    about = message()["host"]
    return message(
        at,
        gpus=gpus,
        models=models,
        servers=servers,
        host={**about, "name": machine.host},
        fileSystems=[file_system("/"), file_system(folder, 97.0, models=of_models, readOnly=True)],
        cpuUsage=97.0,
        demo=machine.demo,
    )


def show(machine: Machine, serve: Serve, open_page: OpenPage, **context: Any) -> Page:
    """Open the page with an hour of history, and wait until it is drawn."""
    history = hour(START, machine.gpus, machine.models)
    history["models"] = {
        f"{machine.server}/{id_.partition('/')[2]}": columns for id_, columns in history["models"].items()
    }
    page = open_page(serve(message_of(machine, START + 2), history).url, **context)
    expect(page.locator("[data-show=cpu] .number")).to_have_text("97.0")
    return page


def settle(page: Page) -> None:
    """Wait until the browser has painted twice, by which time charts have their new size."""
    page.evaluate(
        "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))"
    )


@pytest.mark.parametrize("name", MACHINES)
def test_the_layout_holds(name: str, serve: Serve, open_page: OpenPage, tmp_path: Path) -> None:
    """Nothing scrolls horizontally, overlaps its neighbour or is cut without an ellipsis on any screen."""
    page = show(MACHINES[name], serve, open_page)
    found = {}
    for screen, wanted in SCREENS.items():
        page.emulate_media(color_scheme=wanted["scheme"])
        page.set_viewport_size({"width": wanted["width"], "height": wanted["height"]})
        settle(page)
        page.screenshot(path=tmp_path / f"{screen}.png", full_page=True)
        found[screen] = faults(page)
    assert {screen: of_screen for screen, of_screen in found.items() if of_screen} == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(scheme: str, serve: Serve, open_page: OpenPage) -> None:
    """No rule of axe-core is violated, with a model from right to left, a server that is down, and everything open."""
    axe = (node_modules() / "axe-core/axe.min.js").read_text(encoding="utf-8")
    page = show(MACHINES["from right to left"], serve, open_page, color_scheme=scheme)
    for summary in page.locator("summary:visible").all():
        summary.click()
    page.evaluate(axe)
    violations = page.evaluate(
        """async () => (await axe.run()).violations.map(({ id, help, nodes }) =>
           `${id}: ${help}: ${nodes.map((node) => node.html.slice(0, 160)).join(" | ")}`)"""
    )
    assert violations == []


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("<p>one</p><p>two</p>", None),
        ('<p style="width: 30px; overflow-wrap: anywhere">workstation</p>', "broken in a word: workstation"),
        ('<p style="width: 150px">a text with several lines</p>', None),
        ('<div style="width: 2000px">wide</div>', "scrolls horizontally: 2000 > 400"),
        ('<p style="position: absolute; left: 370px; white-space: nowrap">at the edge</p>', "scrolls horizontally"),
        ('<p>first</p><p style="margin-top: -34px">second</p>', "overlap: second | first"),
        ('<p style="width: 30px; overflow: hidden; white-space: nowrap">abcdefghijk</p>', "cut without an ellipsis"),
        (
            '<p style="width: 30px; overflow: hidden; white-space: nowrap; text-overflow: ellipsis">abcdefghijk</p>',
            None,
        ),
        ('<div style="width: 50px; overflow-x: auto"><p style="width: 900px">scrolls by itself</p></div>', None),
    ],
)
def test_faults_are_found(browser: Browser, body: str, fault: str | None) -> None:
    """What the tests above look for is found where it is, and only there."""
    page = browser.new_page(viewport={"width": 400, "height": 300})
    style = "body { margin: 0; font: 16px/20px monospace } p { margin: 10px }"
    page.set_content(f"<!doctype html><style>{style}</style>{body}")
    found = faults(page)
    page.close()
    if fault is None:
        assert found == []
    else:
        assert [one for one in found if one.startswith(fault)], found
