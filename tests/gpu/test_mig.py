from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.gpu.driver import GIB, H100, Lines, plug_in
from tests.gpu.querying import FIRST, NAME, collected, named, of_first

if TYPE_CHECKING:
    from tests.gpu.conftest import Clock, MakeGpu
    from tests.gpu.driver import Driver


def test_parts_without_a_uuid_are_one_series(driver: Driver, make_gpu: MakeGpu) -> None:
    """Where the driver returns no UUID for the parts of an instance, the page has no duplicate series."""
    plug_in(driver, 1, H100, NAME)
    parts: Lines = {f"mig.{part}.GpuInstanceId": 1 for part in (0, 1)}
    driver.say(0, {**parts, "MigMode": "1 1", "MaxMigDeviceCount": 7})
    (family,) = [family for family in make_gpu().collect() if family.name.endswith("gpu_mig_info")]
    assert [sample.labels["mig_uuid"] for sample in family.samples] == [""]


def test_samples_of_an_instance_that_is_gone_are_given_back(driver: Driver, make_gpu: MakeGpu, clock: Clock) -> None:
    """Instances may be made and destroyed again and again while the driver stays open."""
    plug_in(driver, 1, H100, NAME)
    driver.say(0, {"mig.0.GpuInstanceId": 1, "MigMode": "1 1", "MaxMigDeviceCount": 7, "SupportedEventTypes": 0})
    collector = make_gpu()
    before = driver.allocated()
    collected(collector, clock)
    with_instance = driver.allocated()
    driver.forget(0, "mig.0.GpuInstanceId")
    collected(collector, clock)
    assert with_instance - before > driver.allocated() - before == 2 + 1  # the GPU's own, and the set of events


def test_mig_instances_are_rows_of_their_own(driver: Driver, make_gpu: MakeGpu, clock: Clock) -> None:
    """Each GPU instance has its memory, activity and processes in families of its own, once, while it exists."""
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
    collector = make_gpu(names=named({11: "vllm", 12: "tei", 13: "tei"}))
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
    for code in (999, 3, 4):  # for the moment
        driver.say(0, MigMode=f"!{code}", MaxMigDeviceCount=f"!{code}", GpmSupport=f"!{code}")
        read = collected(collector)
        assert list(read["gpu_mig_memory_used_bytes"]) == [large]
        assert read["gpu_mig_sm_active_ratio"] == {large: 0.25}
    driver.say(0, {"MigMode": "0 0", "UtilizationRates": "50 50"})
    read = collected(collector)
    assert not [name for name in read if name.startswith("gpu_mig")]
    assert of_first(collected(collector), "utilization_ratio") == {(): 0.5}


def test_a_gpu_that_is_no_longer_divided_has_everything_again(driver: Driver, make_gpu: MakeGpu, clock: Clock) -> None:
    """Samples and activity, which a divided GPU does not have as a whole, return."""
    whole: Lines = {key: H100[key] for key in ("Samples.1", "SupportedClocksEventReasons")}
    divided: Lines = {"MigMode": "1 1", "MaxMigDeviceCount": 7, "GpmSampleGet": "!2"}
    plug_in(driver, 1, H100 | divided | dict.fromkeys(whole, "!3"), NAME)
    collector = make_gpu()
    families = ("busy_seconds_total", "sm_active_ratio", "pcie_receive_bytes_total", "throttled")
    read = collected(collector, clock)
    assert [name for name in families if of_first(read, name)] == []
    driver.say("*", whole | {"MigMode": "0 0", "GpmSampleGet": 0})
    collected(collector, clock)
    read = collected(collector, clock)
    assert [name for name in families if of_first(read, name)] == list(families)
    allocated = driver.allocated()
    for mode in ("1 1", "0 0"):
        driver.say("*", MigMode=mode)
        collected(collector, clock)
    collected(collector, clock)
    assert driver.allocated() == allocated


def test_what_is_counted_between_scrapes_comes_back_as_well(driver: Driver, make_gpu: MakeGpu) -> None:
    """A divided GPU may lack PCIe counters, and here performance monitoring does not replace them."""
    plug_in(driver, 1, H100 | {"GpmSupport": 0, "MigMode": "1 1", "MaxMigDeviceCount": 7}, NAME)
    collector = make_gpu()
    assert not of_first(collected(collector), "pcie_receive_bytes_total")
    driver.say("*", {"MigMode": "0 0", "field.197.0": 1000, "field.198.0": 2000})
    collected(collector)
    driver.say("*", {"field.198.0": 2500})
    assert of_first(collected(collector), "pcie_receive_bytes_total") == {(): 500}


@pytest.mark.parametrize("code", [3, 4, 999])
def test_an_instances_fields_that_fail_for_a_moment_are_counted(
    code: int, driver: Driver, make_gpu: MakeGpu, clock: Clock
) -> None:
    """Memory is absent meanwhile: the older call would count the driver's reserved memory as used."""
    plug_in(driver, 1, H100 | {"MigMode": "1 1", "MaxMigDeviceCount": 7}, NAME)
    part: Lines = {"GpuInstanceId": 1, "MemoryInfo_v2": f"{40 * GIB} {30 * GIB} {9 * GIB} {GIB}", "MemoryInfo": "9 9 0"}
    driver.say(0, {f"mig.0.{key}": value for key, value in part.items()})
    collector = make_gpu()
    instance = (*FIRST, "1", "")
    for says, used, lost in ((part["MemoryInfo_v2"], {instance: 30 * GIB}, 0), (f"!{code}", {}, 1)) * 2:
        driver.say(0, {"mig.0.MemoryInfo_v2": says})
        read = collected(collector, clock)
        assert read.get("gpu_mig_memory_used_bytes", {}) == used
        assert of_first(read, "fields_lost") == {(): lost}
