"""The cards of GPUs in a real browser: how many fit, what holds their memory, what slows them down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Page, expect

from tests.page.messages import GIB, START, gpu, hour, message, model
from tests.page.test_access import LOW_CONTRAST

if TYPE_CHECKING:
    from tests.page.conftest import OpenPage, Serve

CARDS = "#gpus .card:visible"
UNKNOWN = dict.fromkeys(
    ("usage", "memoryUsed", "memoryTotal", "powerWatts", "powerLimitWatts", "temperature", "temperatureLimit")
)


THROTTLING: tuple[tuple[list[str], str, str], ...] = (
    ([], "", ""),
    (["sw_power_cap"], "slowed down by its power limit", "warn"),
    (["hw_slowdown", "hw_thermal", "sw_power_cap"], "slowed down by heat, its power limit", "alarm"),
    (["hw_thermal", "sw_thermal"], "slowed down by heat", "alarm"),
    (["hw_power_brake", "hw_slowdown"], "slowed down by the power supply", "alarm"),
    (["hw_slowdown"], "slowed down by the hardware", "alarm"),
    (["something_new"], "slowed down by something_new", "warn"),
)
DETECTION = (
    ("none", "no library; no card", "No GPU detected", ""),
    ("off", None, "GPUs are not measured: the collector gpu is off", ""),
    ("unknown", "no driver library", "It is not known whether there is a GPU: no driver library", ""),
    ("failed", "no answer", "The GPUs cannot be read: no answer", "the GPUs cannot be read"),
    (
        "replaced",
        None,
        "The GPU driver was replaced: restart the exporter. If that does not help, restart the machine.",
        "restart the exporter: the GPU driver was replaced",
    ),
)


def rows(page: Page) -> list[int]:
    """Return how many cards are in each row."""
    tops = [box["y"] for card in page.locator(CARDS).all() if (box := card.bounding_box()) is not None]
    return [tops.count(top) for top in sorted(set(tops))]


def users(**held: float) -> list[dict[str, Any]]:
    """Return what holds memory, in GiB by name."""
    return [{"name": name, "bytes": int(size * GIB)} for name, size in held.items()]


def parts(page: Page) -> list[str]:
    """Return the legend of the first GPU's memory."""
    return [row.inner_text().replace("\n", " ").replace("\u202f", " ") for row in page.locator(".parts > div").all()]


@pytest.mark.parametrize(
    ("width", "count", "expected"),
    [
        (1920, 1, [1]),
        (1920, 2, [2]),
        (1920, 3, [3]),
        (1920, 8, [4, 4]),
        (1920, 16, [4, 4, 4, 4]),
        (390, 8, [1] * 8),
    ],
)
def test_cards_are_in_rows(serve: Serve, open_page: OpenPage, width: int, count: int, expected: list[int]) -> None:
    """Compact ones for more than two; sixteen fit on a screen of 1080 lines, and none is cut off."""
    feed = serve(message(gpus=[gpu(number) for number in range(count)]), hour(START, gpus=count))
    page = open_page(feed.url, viewport={"width": width, "height": 1080})
    expect(page.locator(CARDS)).to_have_count(count)
    assert rows(page) == expected
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.locator("#gpus").bounding_box() if count > 1 else None
    if width > 390 and box is not None:
        assert box["height"] < 1080


@pytest.mark.parametrize("count", [3, 16])
def test_a_gpu_more_or_less_moves_the_cards(serve: Serve, open_page: OpenPage, count: int) -> None:
    """Also from one large card to many compact ones, and back."""
    feed = serve(message(gpus=[gpu(0)]))
    page = open_page(feed.url, viewport={"width": 1920, "height": 1080})
    large = page.locator("#gpus .chart:visible").evaluate("chart => chart.clientHeight")
    feed.send(message(START + 2, gpus=[gpu(number) for number in range(count)]))
    expect(page.locator(CARDS)).to_have_count(count)
    assert page.locator("#gpus .chart:visible").first.evaluate("chart => chart.clientHeight") < large
    feed.send(message(START + 4, gpus=[gpu(0)]))
    expect(page.locator(CARDS)).to_have_count(1)
    assert page.locator("#gpus .chart:visible").evaluate("chart => chart.clientHeight") == large


def test_memory_is_divided_by_server_and_model(serve: Serve, open_page: OpenPage) -> None:
    """The rest is other; the parts are as wide as their share of all memory."""
    loaded = model("llama", server="chat", loaded=True)
    card = {**gpu(0), "memoryUsed": 60 * GIB, "memoryUsers": users(chat=40, Xorg=10)}
    feed = serve(message(gpus=[card], models=[loaded, model("idle", server="chat", loaded=False)]))
    page = open_page(feed.url)
    assert parts(page) == ["chat · llama 40.0 GiB", "Xorg 10.0 GiB", "other 10.0 GiB"]
    whole = page.locator(".stack").evaluate("bar => bar.getBoundingClientRect().width")
    widths = page.locator(".stack > div").evaluate_all("all => all.map((one) => one.getBoundingClientRect().width)")
    assert [width / whole for width in widths] == pytest.approx([0.5, 0.125, 0.125], abs=0.01)
    colours = page.locator(".stack > div").evaluate_all(
        "all => all.map((one) => getComputedStyle(one).backgroundColor)"
    )
    assert len({*colours}) == 3
    feed.send(message(START + 2, gpus=[{**card, "memoryUsers": []}]))
    expect(page.locator(".parts")).to_be_hidden()
    expect(page.locator(".stack > div")).to_have_count(1)


def test_a_server_with_several_models_is_divided_where_that_is_known(serve: Serve, open_page: OpenPage) -> None:
    """On one GPU, where the server reports the memory of each; on several GPUs nobody knows which part is where."""
    models = [model(name, server="ollama", loaded=True, memoryUsage=size * GIB) for name, size in (("a", 5), ("b", 20))]
    card = {**gpu(0), "memoryUsed": 30 * GIB, "memoryUsers": users(ollama=30)}
    feed = serve(message(gpus=[card], models=models))
    page = open_page(feed.url)
    assert parts(page) == ["ollama · b 20.0 GiB", "ollama · a 5.00 GiB", "ollama 5.00 GiB"]
    feed.send(message(START + 2, gpus=[card], models=[{**models[0], "memoryUsage": 0}, models[1]]))
    expect(page.locator(".parts > div")).to_have_count(1)
    assert parts(page) == ["ollama 30.0 GiB"]
    feed.send(message(START + 4, gpus=[card, {**card, "id": "1"}], models=models))
    expect(page.locator(CARDS)).to_have_count(2)
    assert parts(page) == ["ollama 30.0 GiB"] * 2


def test_names_of_any_length_and_direction_fit(serve: Serve, open_page: OpenPage) -> None:
    """A name is cut off and whole in its tip; each has a direction of its own; markup is text."""
    long = "an-organisation/" + "a-model-with-a-name-that-does-not-end-" * 5
    names = (long, "نموذج-عربي", "<b>bold</b>")
    models = [model(name, server=f"s{number}", loaded=True) for number, name in enumerate(names)]
    card = {**gpu(0), "memoryUsed": 30 * GIB, "memoryUsers": users(s0=12, s1=10, s2=8)}
    page = open_page(serve(message(gpus=[card] * 1, models=models)).url, viewport={"width": 390, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    terms = page.locator(".parts dt")
    assert terms.first.get_attribute("title") == f"s0 · {long}"
    assert terms.nth(1).locator("bdi").all_inner_texts() == ["s1", "نموذج-عربي"]
    assert terms.nth(2).inner_text() == "s2 · <b>bold</b>"
    edge = page.locator(CARDS).evaluate("card => card.getBoundingClientRect().right")
    for value in page.locator(".parts dd").all():
        assert value.evaluate("value => value.getBoundingClientRect().right") <= edge


def test_what_slows_a_gpu_down_is_in_words(serve: Serve, open_page: OpenPage) -> None:
    """Heat is in the banner as well; a GPU at work without a reason is not marked."""
    feed = serve(message())
    page = open_page(feed.url)
    for step, (reasons, text, level) in enumerate(THROTTLING, 1):
        feed.send(message(START + step, gpus=[{**gpu(0, 100), "name": f"step {step}", "throttledBy": reasons}]))
        expect(page.locator("#gpus .name").first).to_have_text(f"step {step}")
        note = page.locator("#gpus .note").first
        expect(note).to_have_text(text)
        assert (note.get_attribute("data-is") or "") == level
        assert page.locator("#gpus .value[data-is]").count() == 0
        banner = page.locator("#trouble").inner_text()
        assert banner == ("GPU 0 is slowed down by heat" if "heat" in text else "")


def test_the_state_of_a_gpu_without_numbers(serve: Serve, open_page: OpenPage) -> None:
    """One that sleeps is no trouble, one that does not respond is."""
    states = ["suspended", "silent", "lost"]
    gpus = [{**gpu(number), **UNKNOWN, "state": state} for number, state in enumerate(states)]
    page = open_page(serve(message(gpus=gpus)).url)
    assert page.locator("#gpus .note:visible").all_inner_texts() == [
        "suspended by the system to save power",
        "does not respond",
        "fell off the bus: reboot, or reset it",
    ]
    expect(page.locator("#trouble")).to_have_text("GPUs 1, 2 do not respond")


def test_no_gpu_is_detected_only_where_that_is_known(serve: Serve, open_page: OpenPage) -> None:
    """Whatever else is the matter has words of its own, and is in the banner if something is to be done."""
    feed = serve(message(gpus=[gpu(0)]))
    page = open_page(feed.url)
    for step, (state, detail, text, trouble) in enumerate(DETECTION, 1):
        feed.send(message(START + step, gpuDetection={"state": state, "detail": detail}))
        expect(page.locator("#no-gpu .empty")).to_have_text(text)
        assert page.locator("#trouble").inner_text().casefold() == trouble.casefold()
        assert page.title().startswith("▲") is bool(trouble)


def test_a_replaced_driver_is_named_beside_gpus_that_can_be_read(serve: Serve, open_page: OpenPage) -> None:
    """Their cards stay."""
    feed = serve(message(gpus=[gpu(0)], gpuDetection={"state": "replaced", "detail": None}))
    page = open_page(feed.url)
    expect(page.locator(CARDS)).to_have_count(2)
    feed.send(message(START + 2, gpus=[gpu(0)]))
    expect(page.locator(CARDS)).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast(serve: Serve, open_page: OpenPage, scheme: str) -> None:
    """Notes, legends and levels too."""
    card = {**gpu(0), "memoryUsed": 60 * GIB, "memoryUsers": users(a=20, b=10, c=9, d=8, e=7, f=1)}
    gpus = [
        card,
        {**gpu(1), "throttledBy": ["sw_power_cap"]},
        {**gpu(2), "throttledBy": ["hw_power_brake"], "temperature": 99},
    ]
    page = open_page(serve(message(gpus=gpus)).url, color_scheme=scheme)
    assert page.evaluate(LOW_CONTRAST)["low"] == []
