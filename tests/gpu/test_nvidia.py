from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import pytest

from exporter.collectors import Unavailable, gpu
from exporter.gpu import families, library
from exporter.gpu.nvidia_fields import throttle_counters
from exporter.gpu.nvml import LibraryMissing, Nvml
from tests.gpu.driver import FULL, GIB, H100, RTX, Lines, address, plug_in, uuid
from tests.programs import wait_until
from tests.readings import readings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.gpu.conftest import Clock, MakeGpu
    from tests.gpu.driver import Driver
    from tests.readings import Readings

FIRST = ("0", uuid(0))
NAME = "NVIDIA H100 80GB HBM3"


def of_first(read: Readings, name: str) -> dict[tuple[str, ...], float]:
    """Return one family's values of the first GPU by the labels beyond gpu and uuid."""
    return {labels[2:]: value for labels, value in read.get(f"gpu_{name}", {}).items() if labels[:2] == FIRST}


def collected(collector: gpu.Gpu, clock: Clock | None = None) -> Readings:
    """Collect once; with a clock twice, ten seconds apart, so that means since the reading before are there."""
    first = readings(collector.collect())
    if clock is None:
        return first
    clock.seconds += 10
    return readings(collector.collect())


def put_to_sleep(sysfs: Path, index: int, status: str = "suspended", control: str = "auto") -> None:
    """Make the kernel say that a card sleeps (or not)."""
    folder = sysfs / "bus/pci/devices" / address(index) / "power"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "runtime_status").write_text(f"{status}\n")
    (folder / "control").write_text(f"{control}\n")
    (sysfs / "bus/pci/drivers/nvidia" / address(index)).mkdir(parents=True, exist_ok=True)


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
        "recovery_action": 0,
        "xid_watched": 1,
    }
    assert {name: of_first(read, name) for name in one} == {name: {(): pytest.approx(v)} for name, v in one.items()}
    several: dict[str, dict[str, float]] = {
        "temperature_celsius": {"gpu": 61, "memory": 70},
        "temperature_limit_celsius": {"shutdown": 92, "slowdown": 89, "memory_max": 95, "gpu_max": 87},
        "fan_ratio": {"0": 0.45, "1": 1.04},
        "clock_hertz": {"graphics": 1700e6, "sm": 1701e6, "memory": 1702e6, "video": 1703e6},
        "clock_max_hertz": {"graphics": 1980e6, "sm": 1981e6, "memory": 1982e6, "video": 1983e6},
        "ecc_errors_total": {"corrected": 3, "uncorrected": 4, "corrected_lifetime": 5, "uncorrected_lifetime": 6},
        "remapped_rows": {"corrected": 1, "uncorrected": 2, "pending": 0, "failure": 0},
        "retired_pages": {"corrected": 4, "uncorrected": 1},
        "process_memory_bytes": {"program 4100000001": 50 * GIB},
        "nvlink_transmit_bytes_total": {str(link): (1000 + link) * 1024 for link in range(18)},
        "nvlink_receive_bytes_total": {str(link): (2000 + link) * 1024 for link in range(18)},
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
    """The thermal counters moved from 251… to 269… within driver 580; between and before, the older field is asked."""
    asked = {measure.ways[0][0] for measure in throttle_counters(version)}
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
    """What a card does not have, or says with a blank, is absent: no zero, no NaN, no sentinel."""
    plug_in(driver, 1, RTX, "NVIDIA GeForce RTX 4090")
    read = collected(make_gpu(), clock)
    assert of_first(read, "clock_hertz") == {("graphics",): 210e6, ("sm",): 210e6, ("memory",): 405e6}
    assert of_first(read, "temperature_celsius") == {("gpu",): 35}
    assert of_first(read, "fan_ratio") == {("0",): 0}
    absent = (
        "sm_active dram_active recovery pcie ecc remapped nvlink process_memory clock_max retired temperature_limit"
    )
    assert not [name for name in read if any(name.startswith(f"gpu_{prefix}") for prefix in absent.split())]
    assert all(0 <= value < 2**40 for values in read.values() for value in values.values())


def test_what_a_card_lacks_is_asked_for_once_and_told_once(
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


def test_a_failure_of_the_moment_is_asked_again(driver: Driver, make_gpu: MakeGpu) -> None:
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


def test_without_a_library_or_a_driver_there_is_no_gpu(driver: Driver, make_gpu: MakeGpu) -> None:
    """No library, no driver and no GPU are three reasons, each a normal machine's."""

    def missing() -> None:
        raise LibraryMissing(library.MISSING)

    with pytest.raises(Unavailable, match="no NVIDIA driver library"):
        collected(make_gpu(nvml=Nvml(missing)))
    driver.say("-", Init="!9")
    with pytest.raises(Unavailable, match="Driver Not Loaded"):
        collected(make_gpu())
    driver.forget("-", "Init")
    with pytest.raises(Unavailable, match="has no GPU"):
        collected(make_gpu())


def test_a_lost_gpu_is_counted_and_comes_back(
    driver: Driver, make_gpu: MakeGpu, caplog: pytest.LogCaptureFixture
) -> None:
    """A GPU that fell off the bus is missing from the count and not up, others go on, and it returns by itself."""
    caplog.set_level(logging.INFO)
    plug_in(driver, 2, H100, NAME)
    collector = make_gpu()
    collected(collector)
    driver.say(1, all="!15")
    for _ in range(2):
        read = collected(collector)
        assert (read["gpu_devices"], read["gpu_devices_expected"]) == ({(): 1}, {(): 2})
        assert read["gpu_up"] == {FIRST: 1, ("1", uuid(1)): 0}
        assert list(read["gpu_power_watts"]) == [FIRST]
        assert len(read["gpu_info"]) == 1
    driver.forget(1, "all")
    read = collected(collector)
    assert (read["gpu_devices"], read["gpu_up"]) == ({(): 2}, {FIRST: 1, ("1", uuid(1)): 1})
    assert [record.getMessage().split()[-1] for record in caplog.records if "GPU 1" in record.getMessage()] == [
        "failed",
        "again",
    ]


def test_a_missing_gpu_is_looked_for_with_a_new_start(driver: Driver, make_gpu: MakeGpu, clock: Clock) -> None:
    """The library finds a GPU that was plugged in again only when started again: 30 s after it was missed."""
    plug_in(driver, 2, H100, NAME)
    nvml = Nvml()
    collector = make_gpu(nvml=nvml)
    collected(collector)
    driver.say("-", Count=1)
    driver.say(1, all="!15")
    generation = nvml.generation
    collected(collector)
    assert collected(collector)["gpu_devices"] == {(): 1}
    assert nvml.generation == generation
    clock.seconds += 31
    collected(collector)
    driver.say("-", Count=2)
    driver.forget(1, "all")
    assert collected(collector)["gpu_devices"] == {(): 2}
    assert nvml.generation == generation + 1


def test_looking_for_a_missing_gpu_leaves_the_others_their_activity(
    driver: Driver, make_gpu: MakeGpu, clock: Clock
) -> None:
    """A new start loses the means since the scrape before: a GPU that stays away must not cost them in every scrape."""
    plug_in(driver, 2, H100, NAME)
    collector = make_gpu()
    collected(collector)
    driver.say("-", Count=1)
    driver.say(1, all="!15")
    collected(collector)
    with_activity = 0
    for _ in range(40):
        clock.seconds += 60
        with_activity += bool(of_first(collected(collector), "sm_active_ratio"))
    assert with_activity > 30


def test_a_gpu_that_is_read_while_it_is_closed_leaves_no_thread(driver: Driver, make_gpu: MakeGpu) -> None:
    """A scrape may still run when a reload closes its collector."""
    plug_in(driver, 1, H100, NAME)
    collector = make_gpu(sample_seconds=0.01)
    before = set(threading.enumerate())
    collector.close()  # before the first reading is done
    collected(collector)
    wait_until(lambda: not {thread.name for thread in set(threading.enumerate()) - before}, "the threads end")


def test_a_driver_that_is_reloaded(driver: Driver, make_gpu: MakeGpu) -> None:
    """While the driver is away no GPU is there; once it is back it is initialised again, without a restart."""
    plug_in(driver, 2, H100, NAME)
    collector = make_gpu()
    assert collected(collector)["gpu_devices"] == {(): 2}
    driver.say("-", all="!1")
    for _ in range(2):
        read = collected(collector)
        assert (read["gpu_devices"], read["gpu_devices_expected"]) == ({(): 0}, {(): 2})
        assert read["gpu_up"] == {FIRST: 0, ("1", uuid(1)): 0}
        assert read["gpu_restart_required"] == {(): 0}
    driver.forget("-", "all")
    read = collected(collector)
    assert read["gpu_up"] == {FIRST: 1, ("1", uuid(1)): 1}
    assert read["gpu_power_watts"] == {FIRST: 650, ("1", uuid(1)): 650}


def test_a_driver_that_was_away_only_while_gpus_were_asked(driver: Driver, make_gpu: MakeGpu) -> None:
    """When any call says that the library is no longer initialised, the next scrape initialises it."""
    plug_in(driver, 2, H100, NAME)
    nvml = Nvml()
    collector = make_gpu(nvml=nvml)
    collected(collector)
    generation = nvml.generation
    driver.say(1, all="!1")
    assert collected(collector)["gpu_up"] == {FIRST: 1, ("1", uuid(1)): 0}
    driver.forget(1, "all")
    assert collected(collector)["gpu_up"] == {FIRST: 1, ("1", uuid(1)): 1}
    assert nvml.generation == generation + 1


@pytest.mark.parametrize("from_the_start", [False, True])
def test_a_replaced_driver_needs_a_restart(
    from_the_start: bool, driver: Driver, make_gpu: MakeGpu, caplog: pytest.LogCaptureFixture
) -> None:
    """When library and driver no longer fit, a metric and one log line say what to do."""
    plug_in(driver, 1, H100, NAME)
    collector = make_gpu()
    if not from_the_start:
        assert collected(collector)["gpu_restart_required"] == {(): 0}
    driver.say("-", all="!18")
    for _ in range(3):
        read = collected(collector)
        assert (read["gpu_restart_required"], read["gpu_devices"]) == ({(): 1}, {(): 0})
    assert len([record for record in caplog.records if "restart the exporter" in record.getMessage()]) == 1


def test_another_driver_version_needs_a_restart(driver: Driver, make_gpu: MakeGpu) -> None:
    """A driver that came back as another version is used as long as it answers, and the restart is asked for."""
    plug_in(driver, 1, H100, NAME)
    collector = make_gpu()
    collected(collector)
    driver.say("-", all="!9")
    collected(collector)
    driver.forget("-", "all")
    driver.say("-", DriverVersion="590.44.01")
    read = collected(collector)
    assert (read["gpu_restart_required"], read["gpu_devices"]) == ({(): 1}, {(): 1})
    assert next(iter(read["gpu_info"]))[4] == "590.44.01"


def test_a_call_that_hangs_costs_one_gpu(driver: Driver, make_gpu: MakeGpu) -> None:
    """A GPU whose driver hangs is not up and there; the others' metrics are all there; it recovers by itself."""
    plug_in(driver, 3, H100, NAME)
    collector = make_gpu(gpu.Options(stuck_after=0.5))  # type: ignore[arg-type]
    collected(collector)
    driver.say(1, PowerUsage="hang")
    for _ in range(2):
        read = collected(collector)
        assert read["gpu_up"] == {FIRST: 1, ("1", uuid(1)): 0, ("2", uuid(2)): 1}
        assert read["gpu_power_watts"].keys() == {FIRST, ("2", uuid(2))}
        assert read["gpu_devices"] == {(): 3}
        assert ("1", uuid(1)) in read["gpu_busy_seconds_total"]
    assert driver.calls(1, "PowerUsage") == 2
    driver.forget(1, "PowerUsage")
    wait_until(lambda: collected(collector)["gpu_up"]["1", uuid(1)] == 1, "the GPU answers again")


def test_a_missing_gpu_is_not_looked_for_at_the_cost_of_others(driver: Driver, make_gpu: MakeGpu, clock: Clock) -> None:
    """While one GPU hangs and another is missing, the library cannot be started again; the rest is measured on."""
    plug_in(driver, 3, H100, NAME)
    nvml = Nvml(drain_seconds=0.05)
    collector = make_gpu(gpu.Options(stuck_after=0.5), nvml=nvml)  # type: ignore[arg-type]
    collected(collector)
    generation = nvml.generation
    driver.say(1, PowerUsage="hang")
    driver.say(2, all="!15")
    for _ in range(3):
        collected(collector)
        clock.seconds += 31
        assert collected(collector)["gpu_up"] == {FIRST: 1, ("1", uuid(1)): 0, ("2", uuid(2)): 0}
    assert nvml.generation == generation


def test_a_driver_that_hangs_while_gpus_are_counted(driver: Driver, make_gpu: MakeGpu) -> None:
    """When the driver hangs as a whole, the GPUs known so far are asked all the same."""
    plug_in(driver, 1, H100, NAME)
    collector = make_gpu(gpu.Options(stuck_after=0.5))  # type: ignore[arg-type]
    collected(collector)
    driver.say("-", Count="hang")
    assert of_first(collected(collector), "power_watts") == {(): 650}


def test_xids_are_counted_as_they_arrive(driver: Driver, make_gpu: MakeGpu, caplog: pytest.LogCaptureFixture) -> None:
    """Each XID counts once under its GPU and code, with the time it was last seen; a code never seen is absent."""
    plug_in(driver, 2, H100, NAME)
    collector = make_gpu()
    assert "gpu_xid_errors_total" not in collected(collector)
    for gpu_index, xid in ((0, 94), (1, 79), (0, 94), (0, 31)):
        driver.push_xid(gpu_index, xid)
    expected = {(*FIRST, "31"): 1, (*FIRST, "94"): 2, ("1", uuid(1), "79"): 1}
    wait_until(lambda: collected(collector).get("gpu_xid_errors_total") == expected, "all four have arrived")
    assert collected(collector)["gpu_xid_last_timestamp_seconds"] == dict.fromkeys(expected, 1.8e9)
    assert [record.fields["xid"] for record in caplog.records if record.getMessage() == "XID"] == [94, 79, 94, 31]  # type: ignore[attr-defined]


def test_the_xid_of_a_lost_gpu_stays(driver: Driver, make_gpu: MakeGpu) -> None:
    """XID 79 says that the GPU fell off the bus: it must be seen although the GPU is gone."""
    plug_in(driver, 1, H100, NAME)
    collector = make_gpu()
    collected(collector)
    driver.push_xid(0, 79)
    wait_until(lambda: "gpu_xid_errors_total" in collected(collector), "the XID has arrived")
    driver.say(0, all="!15")
    read = collected(collector)
    assert (read["gpu_devices"], read["gpu_xid_errors_total"]) == ({(): 0}, {(*FIRST, "79"): 1})


def test_xids_are_waited_for_again_after_a_new_start(driver: Driver, make_gpu: MakeGpu) -> None:
    """After the driver was away, XIDs count on from where they were."""
    plug_in(driver, 1, H100, NAME)
    collector = make_gpu()
    wait_until(lambda: of_first(collected(collector), "xid_watched") == {(): 1}, "XIDs are watched")
    driver.say("-", all="!9")
    assert of_first(collected(collector), "xid_watched") == {(): 0}
    driver.forget("-", "all")
    wait_until(lambda: of_first(collected(collector), "xid_watched") == {(): 1}, "XIDs are watched again")
    driver.push_xid(0, 48)
    wait_until(lambda: of_first(collected(collector), "xid_errors_total") == {("48",): 1}, "the XID has arrived")


@pytest.mark.parametrize("lines", [{"RegisterEvents": "!3"}, {"SupportedEventTypes": 0}, {"SupportedEventTypes": "!3"}])
def test_where_xids_cannot_be_watched_it_says_so(lines: Lines, driver: Driver, make_gpu: MakeGpu) -> None:
    """Without events (WSL2, vGPU) no XID is counted, and that is not the same as none: xid_watched is 0."""
    plug_in(driver, 1, H100, NAME)
    driver.say(0, lines)
    assert of_first(collected(make_gpu()), "xid_watched") == {(): 0}


def test_mig_instances_are_rows_of_their_own(driver: Driver, make_gpu: MakeGpu, clock: Clock) -> None:
    """Each GPU instance has its memory, activity and processes in families of its own, once, and goes when it goes."""
    plug_in(driver, 1, H100, NAME)
    parts: Lines = {}
    for part, instance, profile in ((0, 1, "3g.40gb"), (1, 1, "1c.3g.40gb"), (4, 7, "1g.10gb+me")):
        parts |= {
            f"mig.{part}.GpuInstanceId": instance,
            f"mig.{part}.UUID": f"MIG-{part}",
            f"mig.{part}.Name": f"{NAME} MIG {profile}",
            f"mig.{part}.MemoryInfo_v2": f"{40 * GIB} {30 * GIB} {9 * GIB} {GIB}",
        }
    driver.say(0, {**parts, "MigMode": "1 1", "MaxMigDeviceCount": 7, "UtilizationRates": "!3", "instance.1.gpm.2": 25})
    driver.say(0, ComputeRunningProcesses=f"11:{GIB}:1 12:{2 * GIB}:7 13:{3 * GIB}:7")
    collector = make_gpu(names=_named({11: "vllm", 12: "tei", 13: "tei"}))
    read = collected(collector, clock)
    small, large = (*FIRST, "7", "1g.10gb+me"), (*FIRST, "1", "3g.40gb")
    assert read["gpu_mig_memory_used_bytes"] == {large: 30 * GIB, small: 30 * GIB}
    assert read["gpu_mig_info"] == {(*large, "MIG-0"): 1, (*large, "MIG-1"): 1, (*small, "MIG-4"): 1}
    assert read["gpu_mig_sm_active_ratio"] == {large: 0.25}
    assert read["gpu_mig_process_memory_bytes"] == {(*large, "vllm"): GIB, (*small, "tei"): 5 * GIB}
    assert read["gpu_process_memory_bytes"] == {(*FIRST, "vllm"): GIB, (*FIRST, "tei"): 5 * GIB}
    assert read["gpu_memory_used_bytes"] == {FIRST: 60 * GIB}
    assert "gpu_utilization_ratio" not in read
    driver.forget(0, "mig.4.GpuInstanceId")
    assert list(collected(collector)["gpu_mig_memory_used_bytes"]) == [large]
    driver.say(0, {"MigMode": "0 0", "UtilizationRates": "50 50"})
    read = collected(collector)
    assert not [name for name in read if name.startswith("gpu_mig")]
    assert of_first(collected(collector), "utilization_ratio") == {(): 0.5}


def _named(names: dict[int, str]) -> object:
    from exporter.gpu.processes import Names  # noqa: PLC0415 - one helper's

    return Names(names.get)


def test_unified_memory_is_the_hosts(driver: Driver, make_gpu: MakeGpu) -> None:
    """A GPU without memory of its own shows the host's total, what its processes hold, and says so."""
    card = {key: value for key, value in H100.items() if not key.startswith("MemoryInfo")}
    plug_in(driver, 1, card, "NVIDIA GB10")
    driver.say(0, ComputeRunningProcesses=f"11:{3 * GIB}: 12:{4 * GIB}:")
    read = collected(make_gpu(host_memory=lambda: 128 * GIB))
    assert of_first(read, "unified_memory") == {(): 1}
    assert of_first(read, "memory_total_bytes") == {(): 128 * GIB}
    assert of_first(read, "memory_used_bytes") == {(): 7 * GIB}
    assert not of_first(read, "memory_free_bytes")


def test_memory_that_is_not_known_is_not_invented(driver: Driver, make_gpu: MakeGpu) -> None:
    """No permission is not unified memory, a total of 0 is no total, and an unknown size makes the sum unknown."""
    plug_in(driver, 3, H100, NAME)
    driver.say(0, MemoryInfo="!4", MemoryInfo_v2="!4")
    driver.say(1, MemoryInfo_v2="0 0 0 0")
    driver.say(2, MemoryInfo="!3", MemoryInfo_v2="!13", ComputeRunningProcesses="11:-: 12:5:")
    read = collected(make_gpu(host_memory=lambda: 100))
    assert read["gpu_memory_total_bytes"] == {("2", uuid(2)): 100}
    assert "gpu_memory_used_bytes" not in read
    assert list(read["gpu_unified_memory"]) == [("2", uuid(2))]


def test_an_older_driver_tells_no_reserved_memory(driver: Driver, make_gpu: MakeGpu) -> None:
    """Without the second version of the memory call the first is taken, and reserved memory is absent."""
    plug_in(driver, 1, H100, NAME)
    driver.say(0, MemoryInfo_v2="!13")
    read = collected(make_gpu())
    assert of_first(read, "memory_used_bytes") == {(): 61 * GIB}
    assert not of_first(read, "memory_reserved_bytes")


def test_memory_by_process_is_by_name(driver: Driver, make_gpu: MakeGpu) -> None:
    """A name's processes are added up, one in two lists counts once, unknown sizes are left out, what ended is gone."""
    plug_in(driver, 1, H100, NAME)
    driver.say(0, ComputeRunningProcesses="11:100: 12:200: 13:-:", GraphicsRunningProcesses="11:100: 14:7:")
    collector = make_gpu(names=_named({11: "vllm", 12: "vllm", 13: "wsl", 14: "Xorg"}))
    assert of_first(collected(collector), "process_memory_bytes") == {("vllm",): 300, ("Xorg",): 7}
    driver.say(0, ComputeRunningProcesses="", GraphicsRunningProcesses="14:7:")
    assert of_first(collected(collector), "process_memory_bytes") == {("Xorg",): 7}


def test_busy_seconds_are_right_at_any_interval(driver: Driver, make_gpu: MakeGpu) -> None:
    """What was busy between two scrapes is in the counter, whatever plain utilisation says at the scrape."""
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


def test_samples_are_taken_between_scrapes(driver: Driver, make_gpu: MakeGpu) -> None:
    """A thread reads the driver's buffer more often than it wraps, without any scrape."""
    plug_in(driver, 1, H100, NAME)
    collector = make_gpu(sample_seconds=0.01)
    collected(collector)
    before = driver.calls(0, "Samples.1")
    wait_until(lambda: driver.calls(0, "Samples.1") > before + 3, "the thread samples")
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


def test_a_driver_without_fields(driver: Driver, make_gpu: MakeGpu) -> None:
    """Where fields cannot be asked for at all, those that a function gives as well are there, the others absent."""
    plug_in(driver, 1, H100 | {"FieldValues": "!13", "PcieReplayCounter": 4, "TotalEccErrors.1.0": 2}, NAME)
    collector = make_gpu()
    for _ in range(2):
        read = collected(collector)
        assert of_first(read, "pcie_replays_total") == {(): 4}
        assert of_first(read, "ecc_errors_total") == {("uncorrected",): 2}
        assert not of_first(read, "recovery_action")
    driver.say("-", EventSetCreate="!4")
    assert of_first(collected(make_gpu()), "xid_watched") == {(): 0}


def test_newer_nvlinks_count_bytes(driver: Driver, make_gpu: MakeGpu) -> None:
    """A link whose data counter is gone has its byte counter instead; a link that is down is absent."""
    card = {key: value for key, value in H100.items() if not key.startswith(("field.138", "field.139"))}
    plug_in(driver, 1, card | {"field.91.0": "u:3", "field.202.0": 500, "field.204.0": 600, "field.138.1": 2}, NAME)
    read = collected(make_gpu())
    assert of_first(read, "nvlink_transmit_bytes_total") == {("0",): 500, ("1",): 2048}
    assert of_first(read, "nvlink_receive_bytes_total") == {("0",): 600}


def test_a_machine_whose_gpus_all_sleep_is_not_touched(driver: Driver, make_gpu: MakeGpu, tmp_path: Path) -> None:
    """Not a single call is made while every GPU sleeps: not even the library is initialised."""
    plug_in(driver, 1, H100, NAME)
    put_to_sleep(tmp_path / "sys", 0)
    read = collected(make_gpu())
    assert (read["gpu_devices"], read["gpu_devices_suspended"]) == ({(): 1}, {(): 1})
    assert driver.all_calls() == 0
    assert "gpu_info" not in read


def test_a_sleeping_gpu_is_not_woken(driver: Driver, make_gpu: MakeGpu, tmp_path: Path) -> None:
    """A GPU that fell asleep is not asked anything, neither by a scrape nor by the sampler; others are; it is up."""
    plug_in(driver, 2, H100, NAME)
    put_to_sleep(tmp_path / "sys", 0, "active", "on")
    put_to_sleep(tmp_path / "sys", 1, "active", "on")
    collector = make_gpu(sample_seconds=0.01)
    collected(collector)
    wait_until(lambda: driver.calls(0, "Samples.1") > 3, "the first GPU's sampler runs")
    put_to_sleep(tmp_path / "sys", 0)
    passes = driver.calls(1, "Samples.1")
    wait_until(lambda: driver.calls(1, "Samples.1") > passes + 3, "a sampling under way has ended")
    asked = {key: driver.calls(0, key) for key in ("PowerUsage", "Samples.1", "FieldValues", "Handle")}
    passes = driver.calls(1, "Samples.1")
    wait_until(lambda: driver.calls(1, "Samples.1") > passes + 3, "the samplers have passed again")
    read = collected(collector)
    assert asked == {key: driver.calls(0, key) for key in asked}
    assert read["gpu_up"] == {FIRST: 1, ("1", uuid(1)): 1}
    assert list(read["gpu_power_watts"]) == [("1", uuid(1))]
    assert (read["gpu_devices"], read["gpu_devices_suspended"]) == ({(): 2}, {(): 1})
    put_to_sleep(tmp_path / "sys", 0, "active")
    assert of_first(collected(collector), "power_watts") == {(): 650}
    collector.close()


def test_a_gpu_that_may_sleep_is_not_sampled_between_scrapes(driver: Driver, make_gpu: MakeGpu, tmp_path: Path) -> None:
    """Where the system may put a GPU to sleep, a question every second would keep it awake."""
    plug_in(driver, 2, H100, NAME)
    put_to_sleep(tmp_path / "sys", 0, "active", "auto")
    put_to_sleep(tmp_path / "sys", 1, "active", "on")
    collector = make_gpu(sample_seconds=0.01)
    collected(collector)
    wait_until(lambda: driver.calls(1, "Samples.1") > 3, "the other GPU's sampler runs")
    assert driver.calls(0, "Samples.1") == 2
    collector.close()


def test_of_two_gpus_the_one_that_is_awake_is_found(driver: Driver, make_gpu: MakeGpu, tmp_path: Path) -> None:
    """A GPU that sleeps from the start is counted, and its handle is not asked for; the other is found by address."""
    plug_in(driver, 2, H100, NAME)
    put_to_sleep(tmp_path / "sys", 0)
    put_to_sleep(tmp_path / "sys", 1, "active")
    collector = make_gpu()
    read = collected(collector)
    assert list(read["gpu_power_watts"]) == [("1", uuid(1))]
    assert (read["gpu_devices"], read["gpu_devices_suspended"]) == ({(): 2}, {(): 1})
    assert driver.calls(0, "Handle") == 0
    put_to_sleep(tmp_path / "sys", 0, "active")
    assert len(collected(collector)["gpu_power_watts"]) == 2


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
