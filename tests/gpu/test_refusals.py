from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.gpu.nvidia.nvml import Nvml
from modelhost_exporter.gpu.nvidia.xid import XidMonitor
from tests.gpu.driver import FULL, GIB, H100, RTX, Lines, plug_in
from tests.gpu.querying import FIRST, NAME, SECOND, collected, of_first
from tests.support.programs import wait_until

if TYPE_CHECKING:
    from tests.gpu.conftest import Clock, MakeGpu
    from tests.gpu.driver import Driver
    from tests.support.readings import Readings

REFUSALS = (2, 3, 4, 13, 25, 26)
FAILURES = (6, 10, 12, 16, 17, 20, 999)


def series(read: Readings) -> set[tuple[str, tuple[str, ...]]]:
    """Return every series of a page."""
    return {(name, labels) for name, values in read.items() for labels in values}


def names_of(read: Readings, key: tuple[str, str]) -> set[str]:
    """Return the names of one GPU's series."""
    return {name for name, labels in series(read) if labels[:2] == key}


@pytest.mark.parametrize("code", [*REFUSALS, *FAILURES])
def test_a_gpu_of_which_every_query_fails_is_not_up(
    code: int, driver: Driver, make_gpu: MakeGpu, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Only its name and its XIDs stay on the page, it is logged once, and all of its series return with it."""
    plug_in(driver, 2, FULL, NAME)
    collector = make_gpu()
    before = collected(collector, clock)
    caplog.clear()
    driver.say(1, all=f"!{code}")
    for _ in range(3):
        clock.seconds += 10
        read = collected(collector)
        assert (read["gpu_up"], read["gpu_devices"]) == ({FIRST: 1, SECOND: 0}, {(): 2})
        assert names_of(read, SECOND) == {"gpu_info", "gpu_up", "gpu_xid_monitored"}
        assert read["gpu_fields_lost"] == {FIRST: 0}
    (record,) = [record for record in caplog.records if "GPU 1" in record.getMessage()]
    assert code == 16 or f"({code})" in record.fields["detail"]  # type: ignore[attr-defined]
    driver.forget(1, "all")
    after = collected(collector, clock)
    assert series(after) == series(before)
    assert after["gpu_fields_lost"] == {FIRST: 0, SECOND: 0}


@pytest.mark.parametrize("card", [{"MemoryInfo": f"{GIB} {GIB} 0"}, {"UtilizationRates": "3 1"}, {"field.1.0": "u:0"}])
def test_a_card_that_has_a_single_field_is_up(card: Lines, driver: Driver, make_gpu: MakeGpu, clock: Clock) -> None:
    """Old cards, vGPUs and WSL support little: one 'not supported' is cached, also after a new query of everything."""
    plug_in(driver, 1, card, NAME)
    collector = make_gpu()
    for _ in range(3):
        read = collected(collector)
        assert (read["gpu_up"], read["gpu_fields_lost"]) == ({FIRST: 1}, {FIRST: 0})
        clock.seconds += 601


def test_refusals_of_a_reading_without_any_success_are_not_remembered(
    driver: Driver, make_gpu: MakeGpu, clock: Clock
) -> None:
    """An exporter started during such a failure has all metrics as soon as it ends."""
    plug_in(driver, 1, {}, NAME)
    collector = make_gpu()
    assert collected(collector)["gpu_up"] == {FIRST: 0}
    driver.say("*", FULL)
    read = collected(collector, clock)
    expected = collected(make_gpu(), clock)
    wait_until(lambda: series(collected(collector)) == series(expected), "everything is there")
    assert read["gpu_up"] == {FIRST: 1}


@pytest.mark.parametrize("code", [*REFUSALS, *FAILURES])
def test_a_field_that_answered_once_is_queried_in_every_reading(
    code: int, driver: Driver, make_gpu: MakeGpu, clock: Clock
) -> None:
    """A refused field is absent and counted, does not affect others, and returns at once."""
    plug_in(driver, 1, FULL, NAME)
    collector = make_gpu()
    before = collected(collector, clock)
    gone = {"power_watts": "PowerUsage", "pcie_replays_total": "field.94.0", "process_memory_bytes": ""}
    driver.say(0, {"PowerUsage": f"!{code}", "field.94.0": f"!{code}", "ComputeRunningProcesses": f"!{code}"})
    for _ in range(3):
        read = collected(collector)
        assert of_first(read, "fields_lost") == {(): 3}
        assert {name for name, _ in series(before) - series(read)} == {f"gpu_{name}" for name in gone}
    assert driver.calls(0, "PowerUsage") == 5
    driver.forget(0, "PowerUsage", "field.94.0", "ComputeRunningProcesses")
    read = collected(collector)
    assert series(read) == series(before)
    assert of_first(read, "fields_lost") == {(): 0}


def test_what_is_read_in_other_ways_comes_back_as_well(driver: Driver, make_gpu: MakeGpu, clock: Clock) -> None:
    """Fans, throttle reasons, links, processes, performance monitoring, samples, and the call that gives all fields."""
    plug_in(driver, 1, FULL, NAME)
    collector = make_gpu()
    before = collected(collector, clock)
    keys = ("NumFans", "CurrentClocksEventReasons", "FieldValues", "GpmSampleGet", "Samples.1", "MemoryInfo_v2")
    driver.say(0, dict.fromkeys((*keys, "MigMode", "SupportedClocksEventReasons", "GpmSupport"), "!4"))
    for _ in range(2):
        clock.seconds += 300
        read = collected(collector)
        assert read["gpu_up"] == {FIRST: 1}
        assert not of_first(read, "unified_memory"), "the memory is not the host's because it is not known"
        assert not of_first(read, "busy_seconds_total")
        assert of_first(read, "fields_lost")[()] > 10
    driver.forget(0)
    plug_in(driver, 1, FULL, NAME)
    collected(collector, clock)
    assert series(collected(collector, clock)) == series(before)


def test_a_field_that_never_answered_is_queried_again_after_a_while(
    driver: Driver, make_gpu: MakeGpu, clock: Clock
) -> None:
    """Every 10 minutes, together with its prerequisites: links, limits, throttle reasons, performance monitoring."""
    late = ("MarginTemperature", "field.91.0", "MaxClockInfo.0", "SupportedClocksEventReasons", "GpmSupport")
    plug_in(driver, 1, {key: value for key, value in FULL.items() if key not in late}, NAME)
    collector = make_gpu()
    for _ in range(4):
        read = collected(collector)
        clock.seconds += 100
    names = ("temperature_margin_celsius", "nvlink_receive_bytes_total", "clock_max_hertz", "throttled")
    assert driver.calls(0, "MarginTemperature") == 1
    assert len(of_first(read, "clock_max_hertz")) == 3
    driver.say("*", {key: FULL[key] for key in late})
    clock.seconds += 200
    read = collected(collector, clock)
    assert [name for name in names if not of_first(read, name)] == []
    assert len(of_first(read, "clock_max_hertz")) == 4
    assert of_first(read, "sm_active_ratio") == {(): 0.835}


def test_what_is_read_once_is_kept_when_it_is_refused_later(driver: Driver, make_gpu: MakeGpu, clock: Clock) -> None:
    """The number of links, the possible reasons and the limits do not change: a refusal after 10 minutes loses none."""
    plug_in(driver, 1, H100, NAME)
    collector = make_gpu()
    before = collected(collector, clock)
    keys = ("field.91.0", "SupportedClocksEventReasons", "MaxClockInfo.0", "TemperatureThreshold.1", "GpmSupport")
    for code in (3, 999):
        driver.say(0, dict.fromkeys(keys, f"!{code}"))
        clock.seconds += 601
        assert series(collected(collector, clock)) == series(before)
    assert driver.calls(0, "field.91.0") >= 3


def test_what_the_card_does_not_count_is_added_up_on(driver: Driver, make_gpu: MakeGpu, clock: Clock) -> None:
    """Energy that was added up from samples does not jump when the card's own counter answers after all."""
    plug_in(driver, 1, {**RTX, "TotalEnergyConsumption": "!3"}, NAME)
    collector = make_gpu()
    collected(collector)
    driver.say("*", {"Samples.0": "1000000:31000 2000000:31000"})
    assert of_first(collected(collector), "energy_joules_total") == {(): 31}
    driver.say("*", TotalEnergyConsumption=123_456_789_012)
    clock.seconds += 601
    assert of_first(collected(collector), "energy_joules_total") == {(): 31}


def test_samples_that_were_not_supported_are_queried_again(driver: Driver, make_gpu: MakeGpu, clock: Clock) -> None:
    """The busy seconds begin once the driver has samples."""
    plug_in(driver, 1, {**H100, "Samples.1": "!3"}, NAME)
    collector = make_gpu()
    assert not of_first(collected(collector), "busy_seconds_total")
    driver.say("*", {"Samples.1": "1000000:50"})
    assert not of_first(collected(collector), "busy_seconds_total")
    clock.seconds += 601
    assert of_first(collected(collector), "busy_seconds_total") == {(): 0}


def test_xids_that_were_not_supported_are_registered_later(driver: Driver, make_gpu: MakeGpu, clock: Clock) -> None:
    """A GPU that refused its events is tried again after 10 minutes; the set of events likewise."""
    plug_in(driver, 1, H100, NAME)
    nvml = Nvml()
    driver.say("-", EventSetCreate="!4")
    collector = make_gpu(nvml=nvml, xids=XidMonitor(nvml, time.time, 10, clock))
    collected(collector)
    wait_until(lambda: driver.calls(-1, "EventSetCreate") > 0, "it was refused")
    driver.forget("-", "EventSetCreate")
    driver.say(0, RegisterEvents="!4")
    assert collected(collector)["gpu_xid_monitored"] == {FIRST: 0}
    clock.seconds += 600
    wait_until(lambda: driver.calls(0, "RegisterEvents") > 0, "it was refused again")
    driver.forget(0, "RegisterEvents")
    clock.seconds += 600
    wait_until(lambda: collected(collector)["gpu_xid_monitored"] == {FIRST: 1}, "XIDs are watched")


def test_xids_are_not_watched_while_waiting_fails(driver: Driver, make_gpu: MakeGpu) -> None:
    """A count of 0 XIDs means something only while events are received."""
    plug_in(driver, 1, H100, NAME)
    collector = make_gpu()
    wait_until(lambda: collected(collector)["gpu_xid_monitored"] == {FIRST: 1}, "XIDs are watched")
    driver.say("-", events="!999")
    wait_until(lambda: collected(collector)["gpu_xid_monitored"] == {FIRST: 0}, "they are not")
    driver.forget("-", "events")
    wait_until(lambda: collected(collector)["gpu_xid_monitored"] == {FIRST: 1}, "they are again")
