"""Whatever a collector does, a page with the others is served in time."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.collector import Unavailable
from modelhost_exporter.metrics.exposition import OPENMETRICS, TEXT
from modelhost_exporter.scraping.scrape import _HEAD_START_SECONDS, Scrape
from tests.support.fakes import Fixed, Hanging, Raising, family, of_collector, samples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from modelhost_exporter.collector import Collector

GOOD = ("modelhost_good", ())


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    """Return a hanging collector, which is released at the end."""
    collector = Hanging()
    yield collector
    collector.release.set()


class _Speechless(Exception):
    """An error whose text cannot be formatted."""

    def __str__(self) -> str:
        raise RuntimeError("the driver is gone")


@pytest.mark.parametrize(
    ("bad", "available"),
    [
        (Raising(_Speechless()), 1),
        (Raising(RuntimeError("driver gone")), 1),
        (Raising(SystemExit(3)), 1),
        (Raising(Unavailable("no such thing here")), 0),
        (Fixed(), 0),
        (Fixed(family(value="not a number")), 1),
        (Fixed(family(value=None)), 1),
        (Fixed(family("modelhost_good")), 1),
        (Fixed(family("modelhost_twice"), family("modelhost_twice")), 1),
        (Fixed(family("modelhost_clash", kind="counter"), family("modelhost_clash_total")), 1),
        (Fixed(family("modelhost_scrape_timeout_seconds"), family("modelhost_good")), 1),
    ],
)
def test_a_bad_collector_costs_only_its_own_metrics(bad: Fixed | Raising, available: int) -> None:
    """A collector that raises, has nothing, or returns what cannot be written is reported; the others are served."""
    page = Scrape({"a": Fixed(family("modelhost_good")), "bad": bad}, 5.0).page(TEXT)
    values = samples(page)
    assert values[GOOD] == 1
    assert of_collector(page, "success", "a") == 1
    assert of_collector(page, "success", "bad") == 0
    assert of_collector(page, "available", "bad") == available
    assert ("modelhost_half", ()) not in values
    assert page.count(b"# TYPE modelhost_good ") == 1


def test_a_family_of_the_exporters_own_cannot_be_taken() -> None:
    """A collector that claims a name of the exporter's own metrics fails; the exporter's stay."""
    page = Scrape({"bad": Fixed(family("modelhost_own", 2.0))}, 5.0, own=Fixed(family("modelhost_own"))).page(TEXT)
    assert samples(page)["modelhost_own", ()] == 1
    assert of_collector(page, "success", "bad") == 0


def test_own_metrics_that_fail_do_not_cost_the_page() -> None:
    """When the exporter's own metrics raise, the collectors are still served."""
    page = Scrape({"a": Fixed(family("modelhost_good"))}, 5.0, own=Raising(OSError("no /proc"))).page(TEXT)
    assert samples(page)[GOOD] == 1


def test_a_hanging_collector_misses_its_deadline_and_comes_back(hanging: Hanging) -> None:
    """It is reported, runs once while it hangs, delays no other collector, and recovers once it has returned."""
    scrape = Scrape({"good": Fixed(family("modelhost_good")), "hanging": hanging}, 1.0)
    first = scrape.page(TEXT)
    assert of_collector(first, "success", "hanging") == 0
    assert of_collector(first, "available", "hanging") == 1
    assert of_collector(first, "duration_seconds", "hanging") == pytest.approx(1.0, abs=0.3)
    assert samples(first)[GOOD] == 1

    began = time.monotonic()
    second = scrape.page(TEXT)
    assert time.monotonic() - began < 0.9, "a scrape waited again for a collector that hangs"
    assert of_collector(second, "success", "hanging") == 0
    assert hanging.runs == 1

    hanging.release.set()
    hanging_returned = threading.Event()
    while not hanging_returned.wait(0.001):
        page = scrape.page(TEXT)
        if of_collector(page, "success", "hanging") == 1:
            hanging_returned.set()
    assert samples(page)["modelhost_late", ()] == 1


def test_collectors_run_side_by_side() -> None:
    """Two collectors that each wait for the other both succeed."""
    barrier = threading.Barrier(2, timeout=5)

    class Meeting:
        def __init__(self, name: str) -> None:
            self._name = name

        def collect(self) -> list[Metric]:
            barrier.wait()
            return [family(f"modelhost_{self._name}")]

    page = Scrape({"a": Meeting("a"), "b": Meeting("b")}, 5.0).page(TEXT)
    assert of_collector(page, "success", "a") == of_collector(page, "success", "b") == 1


def test_a_scrapes_own_shorter_time_out_wins(hanging: Hanging) -> None:
    """The deadline is the smaller one of the configured and the requested, and the page has it."""
    scrape = Scrape({"hanging": hanging}, 30.0)
    page = scrape.page(TEXT, timeout_seconds=0.05)
    assert samples(page)["modelhost_scrape_timeout_seconds", ()] == 0.05
    assert samples(Scrape({}, 3.0).page(TEXT, timeout_seconds=60))["modelhost_scrape_timeout_seconds", ()] == 3


def test_scrapes_at_the_same_time_share_a_run(hanging: Hanging) -> None:
    """A second scrape during a run waits for that run and does not start another."""
    all_asked = threading.Barrier(5, timeout=5)

    class Own:  # is measured once a scrape has started its collectors
        def collect(self) -> list[Metric]:
            all_asked.wait()
            return [family()]

    scrape = Scrape({"hanging": hanging}, 10.0, own=Own())
    pages: list[bytes] = []
    threads = [threading.Thread(target=lambda: pages.append(scrape.page(TEXT))) for _ in range(4)]
    for thread in threads:
        thread.start()
    all_asked.wait()
    hanging.release.set()
    for thread in threads:
        thread.join(10)
    assert [of_collector(page, "success", "hanging") for page in pages] == [1, 1, 1, 1]
    assert hanging.runs == 1


def test_only_the_chosen_collectors_run() -> None:
    """A filtered page neither shows nor runs the others."""
    other = Fixed(family("modelhost_other"))
    page = Scrape({"a": Fixed(family("modelhost_good")), "other": other}, 5.0).page(TEXT, only={"a"})
    assert GOOD in samples(page)
    assert b"other" not in page
    assert other.runs == 0


def test_every_format_ends_as_it_should() -> None:
    """An OpenMetrics page has its end mark once, at the end; a text page has none."""
    scrape = Scrape({"a": Fixed(family("modelhost_good")), "b": Fixed(family("modelhost_b"))}, 5.0)
    page = scrape.page(OPENMETRICS)
    assert page.endswith(b"# EOF\n")
    assert page.count(b"# EOF") == 1
    assert b"# EOF" not in scrape.page(TEXT)


def test_a_state_is_logged_once_for_each_change(caplog: pytest.LogCaptureFixture) -> None:
    """Failed, then unavailable, then ok again makes three lines however often it is scraped; ok makes none."""

    class Moody:
        error: Exception | None = None

        def collect(self) -> list[Metric]:
            if self.error:
                raise self.error
            return [family()]

    moody = Moody()
    scrape = Scrape({"moody": moody}, 5.0)
    caplog.set_level(logging.INFO)
    for error in (None, RuntimeError("first"), Unavailable("gone"), None):
        moody.error = error
        scrape.page(TEXT)
        scrape.page(TEXT)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "collector failed"),
        ("INFO", "collector unavailable"),
        ("INFO", "collector recovered"),
    ]
    assert vars(caplog.records[0])["fields"] == {"collector": "moody", "detail": "RuntimeError: first"}


def test_a_successor_keeps_a_hung_collectors_thread(hanging: Hanging) -> None:
    """After a reload that keeps a hung collector it is not started a second time."""
    before = Scrape({"hanging": hanging, "gone": Fixed(family("modelhost_gone"))}, 0.05)
    before.page(TEXT)
    after = Scrape({"hanging": hanging}, 0.05, previous=before)
    before.close(after)
    assert of_collector(after.page(TEXT), "success", "hanging") == 0
    assert hanging.runs == 1


def test_a_successor_logs_only_what_changed(caplog: pytest.LogCaptureFixture) -> None:
    """After a reload a collector that is still unavailable is not logged again, and one that recovers is."""
    caplog.set_level(logging.INFO)
    before = Scrape({"gone": Raising(Unavailable("gone")), "bad": Raising(RuntimeError("bad"))}, 5.0)
    before.page(TEXT)
    caplog.clear()
    after = Scrape({"gone": Raising(Unavailable("gone")), "bad": Fixed(family())}, 5.0, previous=before)
    after.page(TEXT)
    assert [(record.getMessage(), vars(record)["fields"]["collector"]) for record in caplog.records] == [
        ("collector recovered", "bad")
    ]


def test_a_closed_scrape_still_serves_who_had_it_already() -> None:
    """A page of a scrape that was replaced meanwhile is complete."""
    scrape = Scrape({"closed": Fixed(family("modelhost_good"))}, 5.0)
    scrape.page(TEXT)
    scrape.close()
    assert samples(scrape.page(TEXT))[GOOD] == 1


def test_a_hung_collector_is_not_started_again_under_other_options(hanging: Hanging) -> None:
    """What replaces a hung collector of its name starts when the old one's call has returned, and not before."""
    successor = Fixed(family("modelhost_good"))
    before = Scrape({"thing": hanging}, 0.05)
    before.page(TEXT)
    after = Scrape({"thing": successor}, 5.0, previous=before)
    before.close(after)
    assert of_collector(after.page(TEXT, timeout_seconds=0.05), "success", "thing") == 0
    assert successor.runs == 0
    hanging.release.set()
    while GOOD not in samples(after.page(TEXT)):
        pass
    assert successor.runs == 1


def test_many_hung_collectors_do_not_add_up(hanging: Hanging) -> None:
    """With a hundred collectors that hang the page still comes about its deadline, not a head start later for each."""
    scrape = Scrape({str(number): hanging for number in range(100)}, 1.0)
    began = time.monotonic()
    scrape.page(TEXT, timeout_seconds=0.4)
    assert time.monotonic() - began < 0.4 + 100 * _HEAD_START_SECONDS / 2


def test_a_measurement_names_the_missing_and_logs_nothing(hanging: Hanging, caplog: pytest.LogCaptureFixture) -> None:
    """Families of those that answered; failed and late ones by name, unlike those that lack what they measure."""
    left_out = Fixed(family("modelhost_left_out"))
    collectors: dict[str, Collector] = {
        "good": Fixed(family("modelhost_good")),
        "nothing": Raising(Unavailable("no such thing")),
        "failing": Raising(RuntimeError("broken")),
        "hanging": hanging,
        "left_out": left_out,
    }
    scrape = Scrape(collectors, 30.0)
    with caplog.at_level(logging.INFO):
        measured = scrape.measure(collectors.keys() - {"left_out"}, 0.2)
    assert [metric.name for metric in measured.families] == ["modelhost_good"]
    assert sorted(measured.silent) == ["failing", "hanging"]
    assert left_out.runs == 0
    assert caplog.records == []
    assert scrape.states.states() == {}


def test_a_measurement_shares_the_run_of_a_scrape(hanging: Hanging) -> None:
    """A collector that a scrape is waiting for is not started again."""
    scrape = Scrape({"hanging": hanging}, 20.0)
    page: list[bytes] = []
    scraping = threading.Thread(target=lambda: page.append(scrape.page(TEXT)))
    scraping.start()
    assert hanging.entered.acquire(timeout=10)
    assert list(scrape.measure(["hanging"], 0.05).silent) == ["hanging"]
    hanging.release.set()
    scraping.join(10)
    assert hanging.runs == 1
    assert samples(page[0])["modelhost_late", ()] == 1


def test_a_clients_own_deadline_changes_no_state(caplog: pytest.LogCaptureFixture) -> None:
    """A collector that missed no more than a shortened deadline is logged neither now nor when it is back."""
    caplog.set_level(logging.INFO)
    hanging = Hanging()
    scrape = Scrape({"slow": hanging}, 30.0)
    for _ in range(3):
        assert of_collector(scrape.page(TEXT, timeout_seconds=0.01), "success", "slow") == 0
    assert scrape.states.states() == {}
    hanging.release.set()
    assert of_collector(scrape.page(TEXT), "success", "slow") == 1
    scrape.close()
    assert caplog.records == []
