"""The card about energy, in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.page.messages import START, message, stamp
from tests.page.test_page import DASH, shown

if TYPE_CHECKING:
    from tests.page.conftest import OpenPage, Serve


def test_power_energy_and_cost_are_shown(serve: Serve, open_page: OpenPage) -> None:
    """With the currency of the price, and since when it counts unless that is midnight."""
    feed = serve(message())
    page = open_page(feed.url)
    expect(page.locator("#power")).to_have_text("512 W".replace(" ", "\u202f"))
    assert shown(page, "Energy", "Today") == "3.42 kWh"
    assert shown(page, "Energy", "Cost today") == "1.09 EUR"
    assert shown(page, "Energy", "Measured") == "GPUs, processors"
    local = page.evaluate("at => new Date(at).toTimeString().slice(0, 5)", (START - 7200) * 1000)
    expect(page.locator("#energy-since")).to_have_text(f"since {local}")
    midnight = page.evaluate("at => new Date(at).setHours(0, 0, 0, 0) / 1000", START * 1000)
    feed.send(message(START + 2, energy={**message()["energy"], "todaySince": stamp(midnight), "todayCost": None}))
    expect(page.locator("#energy-since")).to_have_text("")
    assert shown(page, "Energy", "Cost today") == "no price configured"


def test_a_machine_without_energy_counters_has_no_card(serve: Serve, open_page: OpenPage) -> None:
    """Also where an older exporter sends no such part; power that is not known yet is a dash."""
    feed = serve(message(energy={**message()["energy"], "powerWatts": None}))
    page = open_page(feed.url)
    expect(page.locator("#power")).to_have_text(DASH)
    feed.send(message(START + 2, energy=None))
    expect(page.locator("#energy")).to_be_hidden()
    feed.send(message(START + 4))
    expect(page.locator("#energy")).to_be_visible()
    feed.send({name: value for name, value in message(START + 6).items() if name != "energy"})
    expect(page.locator("#energy")).to_be_hidden()
