from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.collector import CollectorContext, Unavailable, Undetermined
from modelhost_exporter.collectors.gpu import GpuCollector, GpuOptions, create
from modelhost_exporter.config.duration import Seconds
from modelhost_exporter.config.parsing import ConfigError, parse
from modelhost_exporter.gpu import families
from modelhost_exporter.gpu.contract import DeviceLost, Enumeration, Identity, Value
from modelhost_exporter.gpu.sources import LazySource
from modelhost_exporter.metrics.exposition import TEXT
from modelhost_exporter.scraping.scrape import Scrape
from modelhost_exporter.threads import Pool
from tests.support.programs import wait_until
from tests.support.readings import readings, readings_or_reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelhost_exporter.metrics.families import Family
    from tests.support.readings import Readings

QUICK = GpuOptions(timeout=Seconds(0.5))


class Card:
    """A GPU that draws 100 W, or whose reading a test replaces."""

    def __init__(self, gpu: str, read: Callable[[], list[Value]] | None = None) -> None:
        self.identity = Identity(gpu, f"GPU-{gpu}", "nvidia")
        self.memory_by_pid = {1: 8.0}
        self.suspended = self.polling_paused = False
        self.does = read
        self.runs = 0

    def read(self) -> list[Value]:
        """Return the values."""
        self.runs += 1
        return self.does() if self.does else [Value(families.POWER, (), 100.0)]

    def accumulated(self) -> list[Value]:
        """Return accumulated busy seconds."""
        return [Value(families.BUSY, (), 7)]


class Vendor:
    """A source whose enumeration is what the test sets, or a failure."""

    def __init__(self, *cards: Card, missing: tuple[Card, ...] = (), unidentified: int = 0) -> None:
        self.answer: Enumeration | Exception = Enumeration(cards, missing, unidentified)
        self.hangs: threading.Event | None = None
        self.closed = False

    def unavailable_reason(self) -> str:
        """Return '': the driver is present."""
        return ""

    def enumerate(self) -> Enumeration:
        """Return the GPUs, raise, or hang."""
        if self.hangs is not None:
            self.hangs.wait(30)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def driver_values(self) -> list[tuple[Family, float]]:
        """Return one value of the driver."""
        return [(families.RESTART_REQUIRED, 0)]

    def close(self) -> None:
        """Record the call."""
        self.closed = True


def fail() -> list[Value]:
    """Raise an error, as a driver may."""
    raise RuntimeError("no")


def lose() -> list[Value]:
    """Raise the error for a lost GPU."""
    raise DeviceLost("fell off the bus")


def devices(read: Readings) -> tuple[float, float]:
    """Return how many GPUs there are, and should be."""
    return read["gpu_devices"][()], read["gpu_devices_expected"][()]


def test_each_gpu_has_its_series() -> None:
    """Values have the GPU's index and UUID; accumulated values are included."""
    read = readings(GpuCollector({"x": Vendor(Card("0"), Card("1"))}, QUICK).collect())
    assert read["gpu_power_watts"] == {("0", "GPU-0"): 100, ("1", "GPU-1"): 100}
    assert read["gpu_busy_seconds_total"] == {("0", "GPU-0"): 7, ("1", "GPU-1"): 7}
    assert devices(read) == (2, 2)


def test_a_gpu_that_hangs_costs_its_own_metrics(caplog: pytest.LogCaptureFixture) -> None:
    """A GPU that hangs is present and not up, queried once and logged once; its late result is dropped."""
    caplog.set_level(logging.INFO)
    release = threading.Event()

    def hang() -> list[Value]:
        release.wait(30)
        return []

    stuck = Card("1", hang)
    collector = GpuCollector({"x": Vendor(Card("0"), stuck)}, QUICK)
    for _ in range(3):
        read = readings(collector.collect())
        assert read["gpu_up"] == {("0", "GPU-0"): 1, ("1", "GPU-1"): 0}
        assert list(read["gpu_power_watts"]) == [("0", "GPU-0")]
        assert devices(read) == (2, 2)
    assert stuck.runs == 1
    stuck.does = None
    release.set()
    wait_until(lambda: len(readings(collector.collect())["gpu_power_watts"]) == 2, "the GPU answers again")
    assert [record.getMessage().split(" ", 3)[-1] for record in caplog.records] == ["failed", "answers again"]


def test_a_gpu_that_fails_costs_its_own_metrics() -> None:
    """An unexpected error of one GPU does not affect the others."""
    read = readings(GpuCollector({"x": Vendor(Card("0", fail), Card("1"))}, QUICK).collect())
    assert read["gpu_up"] == {("0", "GPU-0"): 0, ("1", "GPU-1"): 1}
    assert devices(read) == (2, 2)


def test_a_gpu_that_is_lost_is_not_there() -> None:
    """A GPU that turns out to be lost when queried is not counted in that scrape."""
    read = readings(GpuCollector({"x": Vendor(Card("0", lose), Card("1"))}, QUICK).collect())
    assert read["gpu_devices"] == {(): 1}
    assert read["gpu_up"] == {("0", "GPU-0"): 0, ("1", "GPU-1"): 1}
    assert next(iter(read["gpu_info"]))[:2] == ("1", "GPU-1")


def test_expected_is_the_most_that_were_there() -> None:
    """The expected number is the highest number so far, without configuration."""
    vendor, card = Vendor(Card("0"), unidentified=2), Card("0")
    collector = GpuCollector({"x": vendor}, QUICK)
    assert devices(readings(collector.collect())) == (3, 3)
    vendor.answer = Enumeration([card])
    assert devices(readings(collector.collect())) == (1, 3)


def test_expected_can_be_configured() -> None:
    """A configured number of expected GPUs does not change, whether more, fewer or none are present."""
    options = GpuOptions(expected_devices=2)
    assert devices(readings(GpuCollector({"x": Vendor(Card("0"), Card("1"), Card("2"))}, options).collect())) == (3, 2)
    nothing = Vendor()
    nothing.answer = Unavailable("no driver")
    assert devices(readings(GpuCollector({"x": nothing}, options).collect())) == (0, 2)


def test_a_machine_without_gpus_is_unavailable() -> None:
    """The error has every source's reason."""
    first, second = Vendor(), Vendor()
    first.answer, second.answer = Unavailable("no library"), Unavailable("no card")
    with pytest.raises(Unavailable, match="no library; no card"):
        list(GpuCollector({"x": first, "y": second}, QUICK).collect())


def test_a_source_that_fails_does_not_cost_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """One vendor's failure is logged; the other vendor's GPUs are all there; alone, it is the collector's failure."""
    broken = Vendor()
    broken.answer = RuntimeError("broken")
    read = readings(GpuCollector({"x": broken, "y": Vendor(Card("0"))}, QUICK).collect())
    assert read["gpu_power_watts"] == {("0", "GPU-0"): 100}
    assert [record.getMessage() for record in caplog.records] == ["x failed"]
    with pytest.raises(RuntimeError, match="broken"):
        list(GpuCollector({"x": broken}, QUICK).collect())


def test_a_source_that_hangs_has_what_it_had() -> None:
    """While an enumeration hangs, the GPUs of the last one are queried; without one, it is the collector's failure."""
    vendor = Vendor(Card("0"))
    collector = GpuCollector({"x": vendor}, QUICK)
    list(collector.collect())
    vendor.hangs = threading.Event()
    assert readings(collector.collect())["gpu_power_watts"] == {("0", "GPU-0"): 100}
    with pytest.raises(TimeoutError, match="x: no answer"):
        list(GpuCollector({"x": vendor}, QUICK, patience_seconds=0).collect())
    vendor.hangs.set()


def test_a_source_that_takes_its_time_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    """Opening a driver takes seconds: until then there are no GPUs, or those from before, without a warning."""
    vendor = Vendor(Card("0"))
    vendor.hangs = threading.Event()
    collector = GpuCollector({"x": vendor}, QUICK)
    with pytest.raises(Unavailable, match="x has not answered yet"):
        list(collector.collect())
    vendor.hangs.set()
    wait_until(lambda: not isinstance(readings_or_reason(collector), str), "it has answered")
    vendor.hangs = threading.Event()
    assert readings(collector.collect())["gpu_power_watts"] == {("0", "GPU-0"): 100}
    vendor.hangs.set()
    assert not caplog.records


def test_a_sleeping_gpu_is_up_and_is_not_asked() -> None:
    """A suspended GPU is no failure, and its remembered values are exported."""
    card = Card("0")
    card.suspended = True
    read = readings(GpuCollector({"x": Vendor(card)}, QUICK).collect())
    assert (card.runs, read["gpu_up"], read["gpu_devices_suspended"]) == (0, {("0", "GPU-0"): 1}, {(): 1})
    assert "gpu_busy_seconds_total" in read


def test_a_value_that_is_no_number_is_absent() -> None:
    """Neither None nor NaN reaches the page, and a family of nothing else is absent."""
    card = Card("0", lambda: [Value(families.POWER, (), None), Value(families.FAN, ("0",), float("nan"))])
    read = readings(GpuCollector({"x": Vendor(card)}, QUICK).collect())
    assert {"gpu_power_watts", "gpu_fan_speed_ratio"}.isdisjoint(read)


def test_a_reload_closes_the_old_collectors_sources() -> None:
    """A collector that a reload replaced is closed, with its sources; one that is kept is not."""
    gone, kept = Vendor(Card("0")), Vendor(Card("0"))
    old = {"gpu": GpuCollector({"x": gone}, QUICK), "kept": GpuCollector({"x": kept}, QUICK)}
    before = Scrape(old, 1.0)
    before.page(TEXT, only=["gpu"])
    after = Scrape({"kept": old["kept"]}, 1.0, previous=before)
    before.close(after)
    assert (gone.closed, kept.closed) == (True, False)


class CountingPool(Pool):
    """A pool that counts its jobs."""

    submitted = 0

    def submit(self, job: Callable[[], object]) -> None:
        """Run a job in a thread."""
        self.submitted += 1
        super().submit(job)


def test_gpus_share_a_thread_while_none_is_slow() -> None:
    """One job for the source and one for its eight GPUs, unless the machine leaves one without CPU time for 5 ms."""
    pool = CountingPool("test-gpu", kept=1)
    collector = GpuCollector({"x": Vendor(*(Card(str(number)) for number in range(8)))}, QUICK, pool=pool)
    jobs = []
    for _ in range(20):
        before = pool.submitted
        list(collector.collect())
        jobs.append(pool.submitted - before)
    assert min(jobs) == 2


@pytest.mark.parametrize("position", [0, 3, 7])
def test_one_of_eight_gpus_that_hangs_leaves_seven_on_the_page(position: int) -> None:
    """Its thread is its own: the others are on every page within the deadline, and it is queried once."""
    release = threading.Event()
    cards = [Card(str(number)) for number in range(8)]
    cards[position].does = lambda: [Value(families.POWER, (), float(release.wait(60)))]
    scrape = Scrape({"gpu": GpuCollector({"x": Vendor(*cards)}, QUICK)}, 10.0)
    for _ in range(2):
        page = scrape.page(TEXT).decode()
        assert page.count("modelhost_gpu_power_watts{") == 7
        assert 'modelhost_scrape_collector_success{collector="gpu"} 1' in page
        assert f'modelhost_gpu_up{{gpu="{position}",uuid="GPU-{position}"}} 0' in page
    assert [card.runs for card in cards] == [1 if number == position else 2 for number in range(8)]
    release.set()


def test_a_card_that_cannot_be_read_is_not_the_same_as_none() -> None:
    """A source that does not know whether there is a GPU prevails over those that know that there is none."""

    def unknown() -> Vendor:
        raise Undetermined("a card without a driver")

    def absent() -> Vendor:
        raise Unavailable("no card")

    collector = GpuCollector({"a": LazySource(absent), "b": LazySource(unknown)}, GpuOptions())
    for _ in range(2):
        with pytest.raises(Undetermined, match=r"^a card without a driver$"):
            list(collector.collect())
    collector.close()
    collector = GpuCollector({"a": LazySource(absent)}, GpuOptions())
    with pytest.raises(Unavailable, match=r"^no card$") as caught:
        list(collector.collect())
    assert not isinstance(caught.value, Undetermined)
    collector.close()


def test_what_is_not_there_is_looked_for_once_a_minute() -> None:
    """A driver that is installed later is found without a restart, and is not looked for in every scrape."""
    now, looked = [0.0], []

    def make() -> Vendor:
        looked.append(now[0])
        if now[0] < 100:
            raise Unavailable("no library")
        return Vendor(Card("0"))

    later = LazySource(make, lambda: now[0])
    for now[0] in (0.0, 30.0, 59.0, 61.0):
        assert later.unavailable_reason() == "no library"
        with pytest.raises(Unavailable, match="no library"):
            later.enumerate()
    assert (looked, list(later.driver_values())) == ([0.0, 61.0], [])
    later.close()
    now[0] = 130.0
    assert not later.unavailable_reason()
    assert len(later.enumerate().present) == 1
    assert list(later.driver_values())
    later.close()


@pytest.mark.parametrize("raw", [{"expected_devices": -1}, {"timeout": 0}, {"expected": 8}])
def test_mistakes_in_the_options_are_told(raw: object) -> None:
    """A number of GPUs below 0, a deadline of 0 and an unknown key are mistakes."""
    with pytest.raises(ConfigError, match=r"collectors\.gpu"):
        parse(GpuOptions, raw, "collectors.gpu")


def test_this_machine() -> None:
    """On the real machine there are GPUs that are up, or a reason why there is none."""
    read = readings_or_reason(create(GpuOptions(), CollectorContext()))
    if isinstance(read, str):
        assert "no amd GPU" in read
    else:
        assert read["gpu_devices"][()] >= 1
