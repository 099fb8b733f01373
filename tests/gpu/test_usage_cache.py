from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.collectors.gpu import GpuCollector, GpuOptions
from modelhost_exporter.config.duration import Seconds
from modelhost_exporter.gpu.processes import ProcessMemory, memory_by_pid
from modelhost_exporter.gpu.usage_cache import FRESH_SECONDS, GpuReading, GpuUse, UsageCache
from modelhost_exporter.process.run import Run
from modelhost_exporter.scraping.scrape import Scrape
from tests.collectors.test_gpu import Card, Vendor
from tests.gpu.conftest import Clock
from tests.gpu.driver import GIB, H100, plug_in, uuid

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.gpu.conftest import MakeGpu
    from tests.gpu.driver import Driver

ONE = {"GPU-1": GpuUse(5.0, {1: 8.0})}


@pytest.fixture
def one(driver: Driver) -> Driver:
    """Return a driver with one card."""
    plug_in(driver, 1, H100, "NVIDIA H100 80GB HBM3")
    return driver


def read_by(collector: GpuCollector) -> dict[str, GpuUse]:
    """Return the usage that a collection caches for models."""
    list(collector.collect())
    assert collector.last_reading is not None
    return dict(collector.last_reading.gpus)


def test_a_card_has_memory_by_process_and_energy(one: Driver, make_gpu: MakeGpu) -> None:
    """Each GPU has the memory of each process and its energy counter, in bytes and joules."""
    one.say(0, ComputeRunningProcesses=f"11:{GIB}: 12:{2 * GIB}:", TotalEnergyConsumption=1_234_000)
    assert read_by(make_gpu()) == {uuid(0): GpuUse(1234.0, {11: GIB, 12: 2 * GIB})}


@pytest.mark.parametrize(
    "says",
    [
        {"MemoryInfo_v2": "!3", "MemoryInfo": "!3"},
        {"ComputeRunningProcesses": "11:-:"},
        {"ComputeRunningProcesses": f"11:{GIB}: 12:-:"},
        {"ComputeRunningProcesses": f"11:{GIB}:1"},
        dict.fromkeys(("ComputeRunningProcesses", "GraphicsRunningProcesses", "MPSComputeRunningProcesses"), "!3"),
        {"UtilizationRates": "!15"},
    ],
    ids=["unified memory", "memory unknown", "one memory unknown", "MIG", "no lists", "lost"],
)
def test_what_would_be_wrong_is_absent(one: Driver, make_gpu: MakeGpu, says: dict[str, str]) -> None:
    """A GPU with memory of an unknown process, and a lost GPU, are left out."""
    one.say(0, ComputeRunningProcesses=f"11:{GIB}:")
    one.say(0, **says)
    assert read_by(make_gpu()) == {}


def test_a_hanging_card_costs_itself(driver: Driver, make_gpu: MakeGpu) -> None:
    """A GPU whose driver hangs is left out; the others are there."""
    plug_in(driver, 2, H100, "NVIDIA H100 80GB HBM3")
    driver.say(1, UtilizationRates="hang")
    assert list(read_by(make_gpu(GpuOptions(timeout=Seconds(0.2))))) == [uuid(0)]


def test_a_paused_card_has_no_old_usage() -> None:
    """The usage of a GPU from before it was suspended or paused is not returned any more."""
    card = Card("0")
    collector = GpuCollector({"x": Vendor(card)}, GpuOptions())
    assert read_by(collector) == {"GPU-0": GpuUse(None, {1: 8.0})}
    card.suspended = True
    assert read_by(collector) == {}
    card.suspended, card.polling_paused = False, True
    assert read_by(collector) == {}


def test_memory_of_a_process_is_added_up() -> None:
    """A process in several lists holds the sum; no process at all is a known value, too."""
    assert memory_by_pid([ProcessMemory(1, 2), ProcessMemory(1, 3), ProcessMemory(4, 0)]) == {1: 5, 4: 0}
    assert memory_by_pid([]) == {}
    assert memory_by_pid(None) is None


def reading(uses: UsageCache, last: GpuReading | None, then: Callable[[], GpuReading | None]) -> list[int]:
    """Have it follow a collector that read this last, and reads that when it is run; count the runs."""
    found = [last]
    runs: list[int] = []

    def run() -> Run[object]:
        runs.append(1)
        started: Run[object] = Run()
        started.execute(lambda: found.append(then()))
        return started

    uses.follow(lambda: found[-1], run)
    return runs


def test_a_recent_reading_is_returned_without_another() -> None:
    """With frequent scrapes, models cause no additional reading of GPUs."""
    clock = Clock()
    uses = UsageCache(clock)
    runs = reading(uses, GpuReading(clock() - FRESH_SECONDS + 1, ONE), lambda: None)
    assert (uses(), runs) == (ONE, [])


def test_without_scrapes_the_collector_is_run() -> None:
    """A reading that is missing or too old is made anew, once."""
    clock = Clock()
    uses = UsageCache(clock)
    runs = reading(uses, None, lambda: GpuReading(clock(), ONE))
    assert (uses(), uses(), runs) == (ONE, ONE, [1])
    clock.seconds += FRESH_SECONDS
    assert (uses(), runs) == (ONE, [1, 1])


def test_an_old_reading_is_not_returned() -> None:
    """If the collector cannot read (a driver that hangs), the result is empty rather than outdated."""
    clock = Clock()
    uses = UsageCache(clock)
    reading(uses, GpuReading(clock() - FRESH_SECONDS, ONE), lambda: GpuReading(clock() - FRESH_SECONDS, ONE))
    assert uses() == {}


def test_no_collector_no_gpus() -> None:
    """Before there is a collector, and after it was switched off, there are no GPUs."""
    clock = Clock()
    uses = UsageCache(clock)
    assert uses() == {}
    reading(uses, GpuReading(clock(), ONE), lambda: None)
    assert uses() == ONE
    uses.follow_none()
    assert uses() == {}


def test_callers_while_the_collector_runs_share_the_run(one: Driver, make_gpu: MakeGpu) -> None:
    """Models that read during a scrape, or at the same time, start no second reading of a driver that hangs."""
    one.say(0, UtilizationRates="hang")
    collector = make_gpu(GpuOptions(timeout=Seconds(0.2)))
    scrape = Scrape({"gpu": collector}, 5)
    uses = UsageCache()
    uses.follow(lambda: collector.last_reading, lambda: scrape.start("gpu"))
    threads = [threading.Thread(target=uses) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert one.calls(0, "UtilizationRates") == 1
    assert uses() == {}
    scrape.close()
