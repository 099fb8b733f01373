from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.gpu.driver import H100, RTX, plug_in
from tests.gpu.querying import NAME, collected, of_first
from tests.support.programs import wait_until

if TYPE_CHECKING:
    from tests.gpu.conftest import Clock, MakeGpu
    from tests.gpu.driver import Driver


def test_busy_seconds_are_right_at_any_interval(driver: Driver, make_gpu: MakeGpu) -> None:
    """The counter includes busy time between two scrapes, whatever the utilisation is at the scrape."""
    plug_in(driver, 1, H100, NAME)
    driver.say(0, {"Samples.1": "1000000:90", "UtilizationRates": "0 0"})
    collector = make_gpu()
    assert of_first(collected(collector), "busy_seconds_total") == {(): 0}
    driver.say(0, {"Samples.1": "1000000:90 1200000:100 1400000:50 1600000:0"})
    assert of_first(collected(collector), "busy_seconds_total") == {(): pytest.approx(0.3)}
    assert of_first(collected(collector), "busy_seconds_total") == {(): pytest.approx(0.3)}
    driver.say(0, {"Samples.1": "!6"})  # an idle GPU's buffer runs dry
    read = collected(collector)
    assert of_first(read, "busy_seconds_total") == {(): pytest.approx(0.3)}
    assert of_first(read, "utilization_ratio") == {(): 0}


def test_samples_that_cannot_be_read_leave_the_counters_time(driver: Driver, make_gpu: MakeGpu) -> None:
    """The timestamp stands still with the counter; that of an idle GPU goes on."""
    plug_in(driver, 1, H100, NAME)
    times = iter((10.0, 20.0))
    collector = make_gpu(now=lambda: next(times))
    for samples, expected in (("1000000:90", 10), ("!999", 10), ("!6", 20)):
        driver.say(0, {"Samples.1": samples})
        read = collected(collector)
        assert of_first(read, "busy_seconds_total") == {(): 0}
        assert of_first(read, "busy_updated_timestamp_seconds") == {(): expected}


def test_samples_are_taken_between_scrapes(driver: Driver, make_gpu: MakeGpu) -> None:
    """A thread reads the driver's buffer before it wraps, without any scrape."""
    plug_in(driver, 1, H100, NAME)
    collector = make_gpu(sample_seconds=0.01)
    collected(collector)
    before = driver.calls(0, "Samples.1")
    wait_until(lambda: driver.calls(0, "Samples.1") > before + 3, "the thread samples")
    collector.close()


def test_a_field_that_always_fails_costs_only_itself(driver: Driver, make_gpu: MakeGpu) -> None:
    """It is tried again, ever less often, and the GPU is sampled between scrapes meanwhile."""
    plug_in(driver, 1, H100 | {"MaxPcieLinkWidth": "!999"}, NAME)
    collector = make_gpu(sample_seconds=0.01)
    for _ in range(20):
        collected(collector)
    assert driver.calls(0, "MaxPcieLinkWidth") == 5
    before = driver.calls(0, "Samples.1")
    wait_until(lambda: driver.calls(0, "Samples.1") > before + 3, "the thread samples")
    driver.say(0, MaxPcieLinkWidth=16)
    for _ in range(12):
        read = collected(collector)
    assert of_first(read, "pcie_link_width_max") == {(): 16}
    collector.close()


def test_energy_is_added_up_where_the_card_does_not_count_it(driver: Driver, make_gpu: MakeGpu) -> None:
    """Without an energy counter the power samples are integrated."""
    plug_in(driver, 1, {key: value for key, value in H100.items() if key != "TotalEnergyConsumption"}, NAME)
    driver.say(0, {"Samples.0": "1000000:500000"})
    collector = make_gpu()
    assert of_first(collected(collector), "energy_joules_total") == {(): 0}
    driver.say(0, {"Samples.0": "1000000:500000 1500000:400000 2000000:300000"})
    assert of_first(collected(collector), "energy_joules_total") == {(): pytest.approx(350)}


def test_pcie_counters_that_wrap(driver: Driver, make_gpu: MakeGpu) -> None:
    """Before Hopper the driver's counters of 32 bits are added up; the slow throughput call is never made."""
    plug_in(driver, 1, RTX, "NVIDIA GeForce RTX 4090")
    driver.say(0, {"field.197.0": "u:4294967000", "field.198.0": "u:5"})
    collector = make_gpu()
    assert of_first(collected(collector), "pcie_transmit_bytes_total") == {(): 0}
    driver.say(0, {"field.197.0": "u:704", "field.198.0": "u:1005"})
    read = collected(collector)
    assert of_first(read, "pcie_transmit_bytes_total") == {(): 1000}
    assert of_first(read, "pcie_receive_bytes_total") == {(): 1000}


def test_activity_needs_permission(driver: Driver, make_gpu: MakeGpu, clock: Clock) -> None:
    """Where performance monitoring is refused its metrics are absent, and PCIe comes from the driver's counters."""
    plug_in(driver, 1, H100 | {"GpmSampleGet": "!4", "field.197.0": 7, "field.198.0": 8}, NAME)
    read = collected(make_gpu(), clock)
    assert not of_first(read, "sm_active_ratio")
    assert of_first(read, "pcie_transmit_bytes_total") == {(): 0}
    assert of_first(read, "power_watts")
    assert driver.calls(0, "GpmSampleGet") == 1


def test_activity_above_all_there_is_counts_for_nothing(driver: Driver, make_gpu: MakeGpu, clock: Clock) -> None:
    """An invalid part of the measurements does not affect the mean of the others."""
    plug_in(driver, 1, H100 | {"gpm.2": 10}, NAME)
    collector = make_gpu()
    for share in (10, 10, 300, 10):
        driver.say(0, {"gpm.2": share})
        clock.seconds += 2
        read = collected(collector)
    assert of_first(read, "sm_active_ratio") == {(): pytest.approx(0.1)}


def test_pcie_counters_never_go_back_nor_change_their_source(driver: Driver, make_gpu: MakeGpu, clock: Clock) -> None:
    """A sample without PCIe adds nothing, a driver opened anew goes on; a second source would count all of it again."""
    plug_in(driver, 1, H100 | {"field.197.0": 7, "field.198.0": 8}, NAME)
    collector = make_gpu()
    assert not of_first(collected(collector), "pcie_transmit_bytes_total")
    moved = of_first(collected(collector, clock), "pcie_transmit_bytes_total")
    assert moved == {(): 100 * 10 * 2**20}
    driver.say(0, {"gpm.20": "nan"})
    clock.seconds += 10
    assert of_first(collected(collector), "pcie_transmit_bytes_total") == moved
    driver.say(0, {"gpm.20": 100})
    driver.say("-", Init="!9", Count="!9")
    collected(collector)
    driver.forget("-", "Init")
    driver.say("-", Count=1)
    clock.seconds += 10
    collected(collector)
    assert of_first(collected(collector, clock), "pcie_transmit_bytes_total")[()] >= moved[()]
