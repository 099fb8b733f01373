"""The page's view of the feed's messages, in a real browser."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from playwright.sync_api import Page, expect

from tests.page.messages import START, gpu, hour, message, model

if TYPE_CHECKING:
    from tests.page.conftest import OpenPage, Serve

DASH = "\u2013"
EVERYTHING_UNKNOWN: dict[str, Any] = {
    "cpuUsage": None,
    "cpuCores": None,
    "loadAverage": None,
    "loadAverages": None,
    "memoryUsage": None,
    "memoryUsed": None,
    "memoryAvailable": None,
    "memoryTotal": None,
    "networkStats": {"bytesInPerSecond": None, "bytesOutPerSecond": None},
    "diskUsage": None,
    "cpuCoreUsage": None,
    "swapUsed": None,
    "swapTotal": None,
    "diskStats": {"bytesReadPerSecond": None, "bytesWrittenPerSecond": None},
    "fileSystems": [],
    "gpuDetection": {"state": "found", "detail": None},
    "gpus": [{**dict.fromkeys(gpu(0)), "id": "0", "state": "ok", "memoryUsers": [], "throttledBy": []}],
    "gpusMissing": None,
    "models": [
        {
            **dict.fromkeys(model("m")),
            **dict.fromkeys(("requestsPerSecond", "avgResponseTime", "successRate", "memoryUsage"), 0),
            **dict.fromkeys(("recentRequests", "eligibleRequests"), 0),
            "id": "chat/m",
            "totalRequests": None,
        }
    ],
    "apiStats": {
        **dict.fromkeys(("p50", "p95", "p99", "last")),
        **dict.fromkeys(("requestsPerSecond", "avgResponseTime", "errorRate"), 0),
        **dict.fromkeys(("rateSeconds", "recentRequests", "eligibleRequests"), 0),
        "totalRequests": 0,
        "responseTimeDistribution": dict.fromkeys(("<100ms", "100-500ms", "500ms-1s", "1-5s", ">5s"), 0),
        "maxDistributionCount": 1,
    },
}

TEMPERATURE = "[data-gpu=temperature]:visible"
CPU, MEMORY, GPU, ERRORS = ("#cpu .value", "#memory .value", "#gpus .value:visible", "#api dd[data-level]")
LIMITS: list[tuple[dict[str, Any], str, str | None]] = [
    ({"cpuUsage": 70}, CPU, None),
    ({"cpuUsage": 70.1}, CPU, "warn"),
    ({"cpuUsage": 90}, CPU, "warn"),
    ({"cpuUsage": 90.1}, CPU, "alarm"),
    ({"cpuUsage": None}, CPU, None),
    ({"memoryUsage": 80}, MEMORY, None),
    ({"memoryUsage": 80.1}, MEMORY, "warn"),
    ({"memoryUsage": 90.1}, MEMORY, "alarm"),
    ({"gpus": [gpu(0, 100)]}, GPU, None),
    ({"gpus": [{**gpu(0), "temperature": 84}]}, TEMPERATURE, None),
    ({"gpus": [{**gpu(0), "temperature": 85}]}, TEMPERATURE, "warn"),
    ({"gpus": [{**gpu(0), "temperature": 88}]}, TEMPERATURE, "alarm"),
    ({"gpus": [{**gpu(0), "temperature": 99, "temperatureLimit": None}]}, TEMPERATURE, None),
    ({"apiStats": {**message()["apiStats"], "errorRate": 5}}, ERRORS, None),
    ({"apiStats": {**message()["apiStats"], "errorRate": 5.1}}, ERRORS, "alarm"),
]


def shown(page: Page, section: str, term: str) -> str:
    """Return the text beside a term in a card."""
    card = page.get_by_role("region", name=section, exact=True)
    entry = card.locator("dl > div").filter(has=page.locator("dt", has_text=term)).first
    return entry.locator("dd").inner_text().replace("\u202f", " ").replace("\n", " ")


def value(page: Page, section: str) -> str:
    """Return a card's large number."""
    return page.get_by_role("region", name=section, exact=True).locator(".value").inner_text()


def test_a_message_is_shown(serve: Serve, open_page: OpenPage) -> None:
    """Every number of the message is in its card, with its unit."""
    page = open_page(serve(message(gpus=[gpu(0)], models=[model("llama3.3:70b")])).url)
    assert [value(page, card) for card in ("CPU", "Memory", "GPU", "API")] == [
        "37.4%",
        "61.5%",
        "40.0%",
        "5.40requests/s",
    ]
    expected = {
        ("CPU", "Cores"): "16",
        ("CPU", "Load"): "5.21\u20024.87\u20024.02",
        ("Memory", "Used"): "39.4GiB",
        ("Memory", "Available"): "24.6GiB",
        ("GPU", "Memory"): "20 / 80GiB",
        ("Memory", "Swap"): "512 MiB / 8GiB",
        ("GPU", "Temp."): "48 / 87°C",
        ("GPU", "Power"): "210 / 700W",
        ("Network", "In"): "1.90MiB/s",
        ("Network", "Out"): "640KiB/s",
        ("Disk", "Read"): "12.0MiB/s",
        ("Disk", "Written"): "3.00MiB/s",
        ("API", "Requests since start"): "18,240",
        ("API", "Average response"): "712ms",
        ("API", "Errors"): "0.8%",
        ("Model performance", "Requests"): "3.20/s",
        ("Model performance", "Avg. response"): "840ms",
        ("Model performance", "Success"): "99.2%",
        ("Model performance", "First token"): "120ms",
        ("Model performance", "Output"): "214tok/s",
        ("Model performance", "Last stream"): "58.0tok/s",
        ("Model performance", "Memory"): "6.40GiB",
        ("Model performance", "p95"): "2.10s",
    }
    assert {key: shown(page, *key) for key in expected} == expected
    assert page.get_by_role("heading", level=1).inner_text() == "workbench Debian 13 · up 2 d 7 h"
    assert page.title() == "5.40\u202freq/s · 214\u202ftok/s · workbench"


def test_the_distribution_is_shown_as_bars(serve: Serve, open_page: OpenPage) -> None:
    """Each range has its share and count; bars are as long as their count is of the largest."""
    page = open_page(serve(message()).url)
    rows = page.locator("#distribution tr").all()
    assert [[cell.inner_text() for cell in row.locator("th, td:not([aria-hidden])").all()] for row in rows] == [
        ["< 100 ms", "17.1\u202f%", "3,120"],
        ["100\u2013500 ms", "35.5\u202f%", "6,480"],
        ["500 ms\u20131 s", "28.6\u202f%", "5,210"],
        ["1\u20135 s", "17.0\u202f%", "3,105"],
        ["> 5 s", "1.8\u202f%", "325"],
    ]
    bars = page.locator("#distribution .meter div").all()
    widths = [bar.evaluate("bar => bar.getBoundingClientRect().width") for bar in bars]
    assert [round(width / max(widths), 2) for width in widths] == [0.48, 1.0, 0.8, 0.48, 0.05]


def test_the_next_message_replaces_the_last(serve: Serve, open_page: OpenPage) -> None:
    """Values change, and each message is one pulse."""
    feed = serve(message())
    page = open_page(feed.url)
    beat = page.locator("#indicator").get_attribute("data-beat")
    feed.send(message(START + 2, cpuUsage=12.34))
    expect(page.locator("#cpu .value")).to_have_text("12.3%")
    assert page.locator("#indicator").get_attribute("data-beat") != beat
    assert page.locator("#indicator .dot").evaluate("dot => getComputedStyle(dot, '::after').animationName") != "none"


def test_there_is_no_animation_with_reduced_motion(serve: Serve, open_page: OpenPage) -> None:
    """With prefers-reduced-motion nothing is animated."""
    page = open_page(serve(message()).url, reduced_motion="reduce")
    assert page.locator("#indicator .dot").evaluate("dot => getComputedStyle(dot, '::after').animationName") == "none"


def test_numbers_change_colour_at_their_limits(serve: Serve, open_page: OpenPage) -> None:
    """CPU: amber above 70, red above 90; memory: amber above 80; errors: red above 5; GPUs: by their temperature."""
    feed = serve(message())
    page = open_page(feed.url)
    for step, (fields, selector, level) in enumerate(LIMITS, 1):
        feed.send(message(START + step, host={**message()["host"], "name": f"step {step}"}, **fields))
        expect(page.locator("#host")).to_have_text(f"step {step}")
        element = page.locator(selector)
        colour = element.evaluate("element => getComputedStyle(element).color")
        named = page.evaluate("name => getComputedStyle(document.body).getPropertyValue(name)", f"--{level or 'text'}")
        assert colour == f"rgb({', '.join(str(int(named[at : at + 2], 16)) for at in (1, 3, 5))})", fields
        mark = element.evaluate("element => getComputedStyle(element, '::before').content")
        assert mark.count("▲") == {None: 0, "warn": 1, "alarm": 2}[level], fields  # for who does not see the colour


def test_unknown_values_are_a_dash(serve: Serve, open_page: OpenPage) -> None:
    """Null is not shown as 0 or NaN anywhere on the page."""
    page = open_page(serve(message(**EVERYTHING_UNKNOWN)).url)
    for element in page.locator("[data-show], [data-model], [data-gpu]").all():
        name = element.evaluate("element => element.dataset.show ?? element.dataset.model ?? element.dataset.gpu")
        assert element.text_content() == ("0" if name == "totalRequests" else DASH), name
    text = page.inner_text("body")
    assert not [word for word in ("NaN", "null", "undefined", "Infinity") if word in text]


def test_gpus_appear_and_disappear(serve: Serve, open_page: OpenPage) -> None:
    """Without GPUs there is a sentence; one GPU is one card; eight cards fit on one screen."""
    feed = serve(message())
    page = open_page(feed.url)
    expect(page.get_by_text("No GPU detected")).to_be_visible()
    feed.send(message(START + 2, gpus=[gpu(number, 10.0 * number) for number in range(8)]))
    expect(page.locator("#gpus .card:visible")).to_have_count(8)
    expect(page.get_by_text("No GPU detected")).to_be_hidden()
    assert [value(page, f"GPU {number}") for number in (0, 1, 7)] == ["0%", "10.0%", "70.0%"]
    rows = {card.bounding_box()["y"] for card in page.locator("#gpus .card:visible").all()}  # type: ignore[index]
    assert len(rows) == 2
    feed.send(message(START + 4))
    expect(page.get_by_text("No GPU detected")).to_be_visible()
    expect(page.locator("#gpus .card:visible")).to_have_count(1)


def test_missing_gpus_are_counted_on_the_page(serve: Serve, open_page: OpenPage) -> None:
    """A GPU that was lost before its name was read has no card: the page shows how many there are."""
    feed = serve(message(gpusMissing=1))
    page = open_page(feed.url)
    missing = page.locator("#no-gpu")
    expect(missing).to_contain_text("1 GPU is missing")
    feed.send(message(START + 2, gpus=[gpu(0, 10.0)], gpusMissing=7))
    expect(missing).to_contain_text("7 GPUs are missing")
    expect(page.locator("#gpus .card:visible")).to_have_count(2)
    feed.send(message(START + 4, gpus=[gpu(0, 10.0)], gpusMissing=0))
    expect(page.locator("#gpus .card:visible")).to_have_count(1)
    expect(missing).to_be_hidden()


def test_a_model_is_selected(serve: Serve, open_page: OpenPage) -> None:
    """The first one is selected; a selection stays while its model exists, at any position of the list."""
    big, small = model("big", requestsPerSecond=9.5), model("small", requestsPerSecond=1.5)
    feed = serve(message(models=[big, small]))
    page = open_page(feed.url)
    select = page.get_by_label("Model", exact=True)
    assert select.locator("option").all_inner_texts() == ["chat/big", "chat/small"]
    assert shown(page, "Model performance", "Requests") == "9.50/s"
    select.select_option("chat/small")
    assert shown(page, "Model performance", "Requests") == "1.50/s"
    third = model("third", requestsPerSecond=4.5)
    feed.send(message(START + 2, models=[third, {**small, "requestsPerSecond": 2.5}, big]))
    expect(page.locator("[data-model=requestsPerSecond]")).to_have_text("2.50/s")
    expect(select).to_have_value("chat/small")
    feed.send(message(START + 4, models=[big]))
    expect(page.locator("[data-model=requestsPerSecond]")).to_have_text("9.50/s")
    feed.send(message(START + 6))
    expect(page.get_by_text("No model yet")).to_be_visible()
    expect(select).to_be_hidden()


def test_names_are_never_markup(serve: Serve, open_page: OpenPage) -> None:
    """Names of models, GPUs and hosts that contain HTML are shown as text."""
    name = '<img src=x onerror="document.body.dataset.broken=1"><script>alert(1)</script>'
    host = {**message()["host"], "name": name, "release": name, "cpuModel": name}
    feed = serve(message(models=[model(name)], gpus=[{**gpu(0), "name": name, "id": name}], host=host))
    page = open_page(feed.url)
    assert page.locator("#model option").inner_text() == f"chat/{name}"
    assert page.locator("#host").inner_text() == name
    assert page.locator("#gpus .name").inner_text() == name
    assert page.locator("main img, main script, h1 img, h1 script").count() == 0
    assert page.locator("body").get_attribute("data-broken") is None


def test_demo_data_are_marked(serve: Serve, open_page: OpenPage) -> None:
    """The page shows that the numbers are simulated."""
    feed = serve(message())
    page = open_page(feed.url)
    expect(page.get_by_text("Demo data")).to_be_hidden()
    feed.send(message(START + 2, demo=True))
    expect(page.get_by_text("Demo data")).to_be_visible()


def test_charts_start_with_the_history(serve: Serve, open_page: OpenPage) -> None:
    """The newest message follows the history; the range is selectable."""
    feed = serve(message(START + 2, models=[model("m")], cpuUsage=99.9), hour(START, models=("m",)))
    page = open_page(feed.url)
    chart = page.locator("#cpu .chart")
    expect(chart).to_have_attribute(
        "aria-label", re.compile(r"CPU usage, last 60 min\. .* to 99.9\u202f%, last 99.9\u202f%")
    )
    expect(page.locator("[data-chart=latency]")).to_have_attribute(
        "aria-label", re.compile(r"Response time, last 60 min\. p50: .* p95: .* p99: .*\ss$")
    )
    page.get_by_label("5 min", exact=True).check()
    expect(chart).to_have_attribute("aria-label", re.compile(r"CPU usage, last 5 min\."))


def test_no_line_is_drawn_across_a_gap_in_the_history(serve: Serve, open_page: OpenPage) -> None:
    """While the machine slept there are no values; a single missing message is no gap."""
    page = open_page(serve(message()).url)
    times = [START, START + 2, START + 6, START + 1200, START + 1202]
    past = hour(START)
    past["series"] = {name: values[: len(times)] for name, values in past["series"].items()}
    past["timestamps"] = [1000 * time for time in times]
    found, values = page.evaluate(
        """async (past) => {
          const { History } = await import("/static/history.js");
          const history = new History();
          history.load(past);
          return history.data(["cpuUsage"]);
        }""",
        past,
    )
    assert found == [1000 * time for time in (*times[:3], START + 8, *times[3:])]
    assert [value is None for value in values] == [False, False, False, True, False, False]


def test_charts_continue_when_the_clock_is_set_back(serve: Serve, open_page: OpenPage) -> None:
    """Earlier points are shifted, and the newest point is drawn."""
    feed = serve(message(START + 2), hour(START))
    page = open_page(feed.url)
    chart = page.locator("#cpu .chart")
    expect(chart).to_have_attribute("aria-label", re.compile("last 60 min.* last 37.4\u202f%$"))
    feed.send(message(START - 1800, cpuUsage=98.5))
    expect(chart).to_have_attribute("aria-label", re.compile("last 60 min.* last 98.5\u202f%$"))


def test_a_chart_is_redrawn(serve: Serve, open_page: OpenPage) -> None:
    """The picture changes with a message."""
    feed = serve(message(START + 2), hour(START))
    page = open_page(feed.url)
    page.get_by_label("5 min", exact=True).check()
    canvas = page.locator("#cpu canvas")
    before = canvas.evaluate("canvas => canvas.toDataURL()")
    feed.send(message(START + 30, cpuUsage=100))
    expect(page.locator("#cpu .value")).to_have_text("100%")
    assert canvas.evaluate("canvas => canvas.toDataURL()") != before


def test_a_chart_waits_until_its_newest_point_fills_a_pixel(serve: Serve, open_page: OpenPage) -> None:
    """In a chart of an hour two seconds are less than a pixel: it is not redrawn for them, but for a minute it is."""
    feed = serve(message(START + 2), hour(START))
    page = open_page(feed.url)
    expect(page.locator("#cpu .chart")).to_have_attribute("aria-label", re.compile("last 60 min"))
    canvas = page.locator("#cpu canvas")
    before = canvas.evaluate("canvas => canvas.toDataURL()")
    feed.send(message(START + 4, cpuUsage=98.5))
    expect(page.locator("#cpu .value")).to_have_text("98.5%")
    assert canvas.evaluate("canvas => canvas.toDataURL()") == before
    feed.send(message(START + 62, cpuUsage=97.5))
    expect(page.locator("#cpu .value")).to_have_text("97.5%")
    assert canvas.evaluate("canvas => canvas.toDataURL()") != before
