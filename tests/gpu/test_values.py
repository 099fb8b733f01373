from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.gpu import families
from modelhost_exporter.gpu.nvidia.throttling import throttle_counters
from tests.gpu.driver import FULL, GIB, H100, RTX, Lines, plug_in, uuid
from tests.gpu.querying import FIRST, NAME, collected, of_first
from tests.support.programs import wait_until

if TYPE_CHECKING:
    from tests.gpu.conftest import Clock, MakeGpu
    from tests.gpu.driver import Driver


def test_every_value_of_a_full_card(driver: Driver, make_gpu: MakeGpu, clock: Clock) -> None:
    """Each value is the driver's, in base units, under the name and labels of the contract."""
    plug_in(driver, 1, FULL, NAME)
    read = collected(make_gpu(), clock)
    assert read["gpu_info"] == {(*FIRST, "nvidia", NAME, "580.95.05", "0000:01:00.0", "96.00.74.00.01", "9.0"): 1}
    one = {
        "up": 1,
        "memory_total_bytes": 80 * GIB,
        "memory_used_bytes": 60 * GIB,
        "memory_free_bytes": 19 * GIB,
        "memory_reserved_bytes": GIB,
        "utilization_ratio": 0.93,
        "memory_utilization_ratio": 0.41,
        "sm_active_ratio": 0.835,
        "sm_occupancy_ratio": 0.4,
        "tensor_active_ratio": 0.5525,
        "dram_active_ratio": 0.71,
        "encoder_utilization_ratio": 0.07,
        "decoder_utilization_ratio": 0.08,
        "power_watts": 650,
        "power_limit_watts": 700,
        "energy_joules_total": 123456789.012,
        "temperature_margin_celsius": 26,
        "performance_state": 0,
        "busy_seconds_total": 0,
        "pcie_link_generation": 5,
        "pcie_link_generation_max": 5,
        "pcie_link_width": 16,
        "pcie_link_width_max": 16,
        "pcie_replays_total": 3,
        "pcie_transmit_bytes_total": 1000 * 2**20,
        "pcie_receive_bytes_total": 2000 * 2**20,
        "ecc_enabled": 1,
        "retired_pages_pending": 1,
        "row_remap_pending": 0,
        "row_remap_failed": 0,
        "recovery_action": 0,
        "xid_monitored": 1,
    }
    assert {name: of_first(read, name) for name in one} == {name: {(): pytest.approx(v)} for name, v in one.items()}
    several: dict[str, dict[str, float]] = {
        "temperature_celsius": {"gpu": 61, "memory": 70},
        "temperature_limit_celsius": {"shutdown": 92, "slowdown": 89, "memory_max": 95, "gpu_max": 87},
        "fan_speed_ratio": {"0": 0.45, "1": 1.04},
        "clock_hertz": {"graphics": 1700e6, "sm": 1701e6, "memory": 1702e6, "video": 1703e6},
        "clock_max_hertz": {"graphics": 1980e6, "sm": 1981e6, "memory": 1982e6, "video": 1983e6},
        "ecc_errors_total": {"corrected": 3, "uncorrected": 4},
        "ecc_errors_lifetime_total": {"corrected": 5, "uncorrected": 6},
        "remapped_rows_total": {"corrected": 1, "uncorrected": 2},
        "retired_pages": {"corrected": 4, "uncorrected": 1},
        "process_memory_bytes": {"program 4100000001": 50 * GIB},
        "nvlink_transmit_bytes_total": {str(link): (1000 + link) * 1024 for link in range(18)},
        "nvlink_receive_bytes_total": {str(link): (2000 + link) * 1024 for link in range(18)},
        "nvlink_up": {str(link): 1 for link in range(18)},
    }
    assert {name: of_first(read, name) for name in several} == {
        name: {(label,): pytest.approx(value) for label, value in values.items()} for name, values in several.items()
    }


def test_throttle_reasons_are_series_of_their_own(driver: Driver, make_gpu: MakeGpu) -> None:
    """Every reason the card can give is 0 or 1, and has seconds where the driver counts them; idle is none."""
    plug_in(driver, 1, H100, NAME)
    driver.say(0, CurrentClocksEventReasons=0x4 | 0x40 | 0x1, SupportedClocksEventReasons=0x1 | 0x4 | 0x40 | 0x80)
    read = collected(make_gpu())
    assert of_first(read, "throttled") == {("sw_power_cap",): 1, ("hw_thermal",): 1, ("hw_power_brake",): 0}
    seconds = of_first(read, "throttled_seconds_total")
    assert seconds.pop(("sw_power_cap",)) == pytest.approx(1.5)
    assert seconds.pop(("sw_thermal",)) == pytest.approx(2.5)
    others = ("sync_boost", "board_limit", "reliability", "hw_thermal", "hw_power_brake")
    assert seconds == {(reason,): 0 for reason in others}


@pytest.mark.parametrize(
    ("version", "numbers"),
    [
        ("580.95.05", {269, 270, 271}),
        ("610.43", {269, 270, 271}),
        ("580.82.07", {269, 270, 271}),
        ("580.65.06", {251, 252, 253}),
        ("575.57.08", {251, 252, 253}),
        ("580.76", {75}),
        ("550.163.01", {75}),
        ("", {75}),
    ],
)
def test_three_fields_are_numbered_by_the_driver(version: str, numbers: set[int]) -> None:
    """The thermal counters moved from 251… to 269… within driver 580; else the older field is queried."""
    asked = {measure.sources[0][0] for measure in throttle_counters(version)}
    assert asked - {74, 76, 77, 79} == numbers


def test_older_drivers_count_throttling_another_way(driver: Driver, make_gpu: MakeGpu) -> None:
    """Without the fields the violation times are taken, and the reasons from the function's older name."""
    plug_in(driver, 1, {"ViolationStatus.0": 3_000_000_000, "ViolationStatus.1": 500_000_000}, NAME)
    driver.say("-", DriverVersion="470.82.01")
    driver.say(0, SupportedClocksThrottleReasons=0x4, CurrentClocksThrottleReasons=0x0)
    read = collected(make_gpu())
    assert of_first(read, "throttled_seconds_total") == {("sw_power_cap",): 3, ("thermal",): 0.5}
    assert of_first(read, "throttled") == {("sw_power_cap",): 0}


def test_eight_gpus_are_told_apart(driver: Driver, make_gpu: MakeGpu, clock: Clock) -> None:
    """Every GPU has its own series under its index and UUID."""
    plug_in(driver, 8, H100, NAME)
    for index in range(8):
        driver.say(index, PowerUsage=(index + 1) * 1000)
    read = collected(make_gpu(), clock)
    assert read["gpu_devices"] == read["gpu_devices_expected"] == {(): 8}
    assert read["gpu_power_watts"] == {(str(index), uuid(index)): index + 1 for index in range(8)}
    assert len(read["gpu_nvlink_receive_bytes_total"]) == 8 * 18


def test_a_consumer_card_lacks_half_of_it(driver: Driver, make_gpu: MakeGpu, clock: Clock) -> None:
    """An unsupported or blank value is absent: no zero, no NaN, no sentinel."""
    plug_in(driver, 1, RTX, "NVIDIA GeForce RTX 4090")
    read = collected(make_gpu(), clock)
    assert of_first(read, "clock_hertz") == {("graphics",): 210e6, ("sm",): 210e6, ("memory",): 405e6}
    assert of_first(read, "temperature_celsius") == {("gpu",): 35}
    assert of_first(read, "fan_speed_ratio") == {("0",): 0}
    absent = (
        "sm_active dram_active recovery pcie ecc remapped nvlink process_memory clock_max retired temperature_limit"
    )
    assert not [name for name in read if any(name.startswith(f"gpu_{prefix}") for prefix in absent.split())]
    assert all(0 <= value < 2**40 for values in read.values() for value in values.values())


def test_what_a_card_lacks_is_queried_once_and_logged_once(
    driver: Driver, make_gpu: MakeGpu, caplog: pytest.LogCaptureFixture
) -> None:
    """An unsupported field costs one call and one log line, however often it is scraped."""
    caplog.set_level(logging.INFO)
    plug_in(driver, 1, RTX, "NVIDIA GeForce RTX 4090")
    collector = make_gpu()
    for _ in range(3):
        collected(collector)
    for key in ("MarginTemperature", "field.142.0", "field.197.0", "RemappedRows", "MigMode", "CurrPcieLinkWidth"):
        assert driver.calls(0, key) == 1 or (key == "RemappedRows" and driver.calls(0, key) == 4)
    (line,) = [record for record in caplog.records if record.getMessage() == "GPU found"]
    assert "nvmlDeviceGetMarginTemperature" in line.fields["without"]  # type: ignore[attr-defined]


def test_a_transient_failure_is_queried_again(driver: Driver, make_gpu: MakeGpu) -> None:
    """A field that fails once (timeout, unknown error) is absent once, and costs no other field."""
    plug_in(driver, 1, H100, NAME)
    driver.say(0, {"PowerUsage": "!999", "field.94.0": "!10"})
    collector = make_gpu()
    read = collected(collector)
    assert not of_first(read, "power_watts")
    assert not of_first(read, "pcie_replays_total")
    assert of_first(read, "ecc_errors_total")
    driver.forget(0, "PowerUsage", "field.94.0")
    read = collected(collector)
    assert of_first(read, "power_watts") == {(): 650}
    assert of_first(read, "pcie_replays_total") == {(): 3}


@pytest.mark.parametrize("code", ["!999", "!10"])
def test_what_a_card_has_is_detected_once_it_responds(
    code: str, driver: Driver, make_gpu: MakeGpu, clock: Clock
) -> None:
    """A card that fails for a moment at its first query lacks nothing afterwards, and is not probed again then."""
    keys = ("GpmSupport", "SupportedClocksEventReasons", "field.91.0", "MaxClockInfo.0", "SupportedEventTypes")
    families_then = ("sm_active_ratio", "throttled", "nvlink_receive_bytes_total", "clock_max_hertz")
    plug_in(driver, 1, H100, NAME)
    driver.say(0, dict.fromkeys(keys, code))
    collector = make_gpu()
    read = collected(collector, clock)
    assert [name for name in families_then[:3] if of_first(read, name)] == []
    assert ("graphics",) not in of_first(read, "clock_max_hertz")
    driver.forget(0, *keys)
    collected(collector, clock)
    read = collected(collector, clock)
    assert [name for name in families_then if not of_first(read, name)] == []
    wait_until(lambda: of_first(collected(collector), "xid_monitored") == {(): 1}, "XIDs are watched")
    asked = [driver.calls(0, key) for key in keys[:4]]
    collected(collector)
    assert [driver.calls(0, key) for key in keys[:4]] == asked


def test_a_driver_without_fields(driver: Driver, make_gpu: MakeGpu) -> None:
    """Where fields cannot be queried at all, those that a function returns as well are present, the others absent."""
    plug_in(driver, 1, H100 | {"FieldValues": "!13", "PcieReplayCounter": 4, "TotalEccErrors.1.0": 2}, NAME)
    collector = make_gpu()
    for _ in range(2):
        read = collected(collector)
        assert of_first(read, "pcie_replays_total") == {(): 4}
        assert of_first(read, "ecc_errors_total") == {("uncorrected",): 2}
        assert not of_first(read, "recovery_action")
    driver.say("-", EventSetCreate="!4")
    assert of_first(collected(make_gpu()), "xid_monitored") == {(): 0}


def test_newer_nvlinks_count_bytes(driver: Driver, make_gpu: MakeGpu) -> None:
    """A link whose data counter is gone has its byte counter instead; a link that is down is absent."""
    card = {key: value for key, value in H100.items() if not key.startswith(("field.138", "field.139"))}
    plug_in(driver, 1, card | {"field.91.0": "u:3", "field.202.0": 500, "field.204.0": 600, "field.138.1": 2}, NAME)
    read = collected(make_gpu())
    assert of_first(read, "nvlink_transmit_bytes_total") == {("0",): 500, ("1",): 2048}
    assert of_first(read, "nvlink_receive_bytes_total") == {("0",): 600}


def test_nvlinks_are_up_or_down(driver: Driver, make_gpu: MakeGpu) -> None:
    """A link that saves power is up; where the driver has no field for the state, the function reports it."""
    card = {key: value for key, value in H100.items() if not key.startswith("field.165")}
    states: Lines = {"field.91.0": "u:4", "field.165.0": "u:0", "field.165.1": "u:2", "NvLinkState.2": 1}
    plug_in(driver, 1, card | states, NAME)
    assert of_first(collected(make_gpu()), "nvlink_up") == {("0",): 0, ("1",): 1, ("2",): 1}


def test_the_declared_families_are_those_that_a_card_with_everything_has(
    driver: Driver, make_gpu: MakeGpu, clock: Clock
) -> None:
    """Every declared family can be emitted, and none is emitted that is not declared."""
    plug_in(driver, 2, FULL, NAME)
    card: Lines = {"MigMode": "1 1", "MaxMigDeviceCount": 1, "mig.0.GpuInstanceId": 1, "mig.0.Name": "x MIG 1g.10gb"}
    card |= {"mig.0.MemoryInfo_v2": "4 2 1 1", "ComputeRunningProcesses": "11:100:1"}
    driver.say(0, card | {f"instance.1.gpm.{metric}": 50 for metric in (2, 3, 5, 10)})
    driver.say(1, MemoryInfo="!3", MemoryInfo_v2="!3")
    driver.push_xid(0, 31)
    collector = make_gpu()
    collected(collector, clock)
    wait_until(lambda: "gpu_xid_errors_total" in collected(collector), "the XID has arrived")
    clock.seconds += 10
    emitted = {
        (family.samples[0].name, family.type, family.documentation, tuple(family.samples[0].labels))
        for family in collector.collect()
    }
    assert emitted == {(family.name, family.type, family.help, family.labels) for family in families.ALL}
