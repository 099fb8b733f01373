from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.gpu.nvidia.device import DeviceDependencies
from modelhost_exporter.gpu.nvidia.nvml import Nvml
from modelhost_exporter.gpu.nvidia.source import NvidiaSource
from modelhost_exporter.gpu.nvidia.xid import XidMonitor
from modelhost_exporter.gpu.runtime_suspend import PciDevices
from tests.gpu.driver import GIB, H100, Lines, plug_in
from tests.gpu.querying import FIRST, NAME, SECOND, collected, of_first, write_power_state, write_runtime_d3
from tests.support.programs import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.gpu.conftest import Clock, MakeGpu
    from tests.gpu.driver import Driver
    from tests.support.readings import Readings


def test_no_driver_call_while_all_gpus_are_suspended(driver: Driver, make_gpu: MakeGpu, tmp_path: Path) -> None:
    """While every GPU is suspended no NVML function is called, not even the one that initialises it."""
    plug_in(driver, 1, H100, NAME)
    write_power_state(tmp_path / "sys", 0)
    read = collected(make_gpu())
    assert (read["gpu_devices"], read["gpu_devices_suspended"]) == ({(): 1}, {(): 1})
    assert driver.all_calls() == 0
    assert "gpu_info" not in read


def test_a_suspended_gpu_is_not_queried(driver: Driver, make_gpu: MakeGpu, tmp_path: Path) -> None:
    """Neither a scrape nor the sampler queries a suspended GPU, which counts as up; the others are queried."""
    plug_in(driver, 2, H100, NAME)
    write_power_state(tmp_path / "sys", 0, "active", "on")
    write_power_state(tmp_path / "sys", 1, "active", "on")
    collector = make_gpu(sample_seconds=0.01)
    collected(collector)
    wait_until(lambda: driver.calls(0, "Samples.1") > 3, "the first GPU's sampler runs")
    write_power_state(tmp_path / "sys", 0)
    passes = driver.calls(1, "Samples.1")
    wait_until(lambda: driver.calls(1, "Samples.1") > passes + 3, "a sampling under way has ended")
    asked = {key: driver.calls(0, key) for key in ("PowerUsage", "Samples.1", "FieldValues", "Handle")}
    passes = driver.calls(1, "Samples.1")
    wait_until(lambda: driver.calls(1, "Samples.1") > passes + 3, "the samplers have passed again")
    read = collected(collector)
    assert asked == {key: driver.calls(0, key) for key in asked}
    assert read["gpu_up"] == {FIRST: 1, SECOND: 1}
    assert list(read["gpu_power_watts"]) == [SECOND]
    assert (read["gpu_devices"], read["gpu_devices_suspended"]) == ({(): 2}, {(): 1})
    write_power_state(tmp_path / "sys", 0, "active")
    assert of_first(collected(collector), "power_watts") == {(): 650}
    collector.close()


IDLE: Lines = H100 | {"UtilizationRates": "0 0", "MemoryInfo_v2": f"{8 * GIB} {4 * 2**20} {7 * GIB} {GIB}"}
WITH_MODEL: Lines = IDLE | {"MemoryInfo_v2": f"{8 * GIB} {6 * GIB} {GIB} {GIB}"}


def counted(read: Readings) -> tuple[float, float, float]:
    """Return the numbers of GPUs that are present, suspended and paused."""
    return read["gpu_devices"][()], read["gpu_devices_suspended"][()], read["gpu_devices_polling_paused"][()]


def test_an_unused_gpu_is_not_polled_so_that_it_can_suspend(
    driver: Driver, make_gpu: MakeGpu, clock: Clock, tmp_path: Path
) -> None:
    """Polling pauses for 30 s with the driver closed; a GPU that is still active then is polled as usual for 10 min."""
    plug_in(driver, 1, IDLE, NAME)
    write_power_state(tmp_path / "sys", 0, "active", "auto")
    collector = make_gpu(sample_seconds=0.01)
    assert of_first(collected(collector), "power_watts") == {(): 650}
    collected(collector)
    wait_until(lambda: driver.references() == 0, "the driver is closed")
    asked = driver.all_calls()
    clock.seconds += 29
    read = collected(collector)
    assert (counted(read), driver.all_calls()) == ((1, 0, 1), asked)
    assert of_first(read, "up") == {(): 1}
    assert not of_first(read, "power_watts")
    clock.seconds += 1
    for _ in range(2):
        read = collected(collector)
        assert (counted(read), of_first(read, "power_watts")) == ((1, 0, 0), {(): 650})
    clock.seconds += 600
    assert counted(collected(collector)) == (1, 0, 0)
    assert counted(collected(collector)) == (1, 0, 1)


def test_a_gpu_that_suspended_is_polled_once_it_is_active(
    driver: Driver, make_gpu: MakeGpu, clock: Clock, tmp_path: Path
) -> None:
    """It counts as suspended and up; active again it is polled at once, and paused again while it is unused."""
    plug_in(driver, 1, IDLE, NAME)
    write_power_state(tmp_path / "sys", 0, "active", "auto")
    collector = make_gpu()
    collected(collector)
    clock.seconds += 15
    write_power_state(tmp_path / "sys", 0)
    read = collected(collector)
    assert (counted(read), of_first(read, "up")) == ((1, 1, 0), {(): 1})
    wait_until(lambda: driver.references() == 0, "the driver is closed")
    write_power_state(tmp_path / "sys", 0, "active")
    read = collected(collector)
    assert (counted(read), of_first(read, "power_watts")) == ((1, 0, 0), {(): 650})
    assert counted(collected(collector)) == (1, 0, 1)


@pytest.mark.parametrize(
    ("card", "d3"),
    [
        (IDLE | {"UtilizationRates": "1 0"}, "Enabled (fine-grained)"),
        (IDLE | {"UtilizationRates": "!3"}, "Enabled (fine-grained)"),
        (WITH_MODEL, "Enabled (coarse-grained)"),
        (IDLE, "Not supported"),
        (IDLE, "Disabled by default"),
        (IDLE, "?"),
        (IDLE, ""),
        (
            IDLE | {"MemoryInfo_v2": "!3", "MemoryInfo": "!3", "ComputeRunningProcesses": "11:-:"},
            "Enabled (fine-grained)",
        ),
    ],
)
def test_a_gpu_that_is_used_or_cannot_suspend_is_always_polled(
    card: Lines, d3: str, driver: Driver, make_gpu: MakeGpu, tmp_path: Path
) -> None:
    """A GPU with a model stays active anyway, as does one whose driver does not support runtime suspend."""
    plug_in(driver, 1, card, NAME)
    write_power_state(tmp_path / "sys", 0, "active", "auto")
    write_runtime_d3(tmp_path / "proc", 0, d3)
    collector = make_gpu(sample_seconds=0.01)
    for _ in range(2):
        assert of_first(collected(collector), "power_watts") == {(): 650}
    before = driver.calls(0, "Samples.1")
    wait_until(lambda: driver.calls(0, "Samples.1") > before + 3, "its sampler runs")


def test_a_pause_ends_only_with_an_enumeration(driver: Driver, clock: Clock, tmp_path: Path) -> None:
    """A pause may end between an enumeration and the queries: the driver is opened by the next enumeration."""
    plug_in(driver, 1, IDLE, NAME)
    write_power_state(tmp_path / "sys", 0, "active", "auto")
    nvml = Nvml()
    pci = PciDevices(tmp_path / "sys", tmp_path / "proc")
    source = NvidiaSource(DeviceDependencies(nvml, XidMonitor(nvml, wait_ms=10), pci, clock=clock))
    (device,) = source.enumerate().present
    device.read()
    source.enumerate()
    clock.seconds += 31
    polling_paused = [device.polling_paused]
    source.enumerate()
    assert [*polling_paused, device.polling_paused] == [True, False]
    assert device.read()
    source.close()
    wait_until(nvml.close, "no call into the driver is under way")


def test_an_unused_gpu_is_paused_beside_a_used_one(
    driver: Driver, make_gpu: MakeGpu, clock: Clock, tmp_path: Path
) -> None:
    """The unused GPU is neither queried nor sampled between scrapes; the other is."""
    plug_in(driver, 2, WITH_MODEL, NAME)
    driver.say(0, IDLE)
    for index in (0, 1):
        write_power_state(tmp_path / "sys", index, "active", "auto")
    collector = make_gpu(sample_seconds=0.01)
    collected(collector)
    asked = {key: driver.calls(0, key) for key in ("PowerUsage", "Samples.1", "FieldValues")}
    passes = driver.calls(1, "Samples.1")
    wait_until(lambda: driver.calls(1, "Samples.1") > passes + 3, "the samplers have passed")
    read = collected(collector)
    assert (counted(read), list(read["gpu_power_watts"])) == ((2, 0, 1), [SECOND])
    assert asked == {key: driver.calls(0, key) for key in asked}
    clock.seconds += 31
    assert len(collected(collector)["gpu_power_watts"]) == 2


def test_a_suspended_gpu_is_present_after_the_driver_is_reopened(
    driver: Driver, make_gpu: MakeGpu, tmp_path: Path
) -> None:
    """NVML cannot attach it without waking it; it counts as present all the same."""
    plug_in(driver, 2, WITH_MODEL, NAME)
    for index in (0, 1):
        write_power_state(tmp_path / "sys", index, "active", "auto")
    collector = make_gpu()
    collected(collector)
    write_power_state(tmp_path / "sys", 0)
    driver.say(1, all="!1")
    collected(collector)
    driver.forget(1, "all")
    read = collected(collector)
    assert (counted(read), read["gpu_up"]) == ((2, 1, 0), {FIRST: 1, SECOND: 1})
    assert list(read["gpu_power_watts"]) == [SECOND]


def test_a_gpu_that_is_lost_while_paused_is_missing(driver: Driver, make_gpu: MakeGpu, tmp_path: Path) -> None:
    """When the driver is reopened it reports the GPU as lost: the known one is missing, not another one."""
    plug_in(driver, 2, WITH_MODEL, NAME)
    driver.say(1, IDLE)
    for index in (0, 1):
        write_power_state(tmp_path / "sys", index, "active", "auto")
    collector = make_gpu()
    assert counted(collected(collector)) == (2, 0, 0)
    assert counted(collected(collector)) == (2, 0, 1)
    driver.say(0, PowerUsage="!1")  # this error makes the collector reopen the driver
    driver.say(1, all="!15")
    collected(collector)
    driver.forget(0, "PowerUsage")
    read = collected(collector)
    assert (counted(read), read["gpu_devices_expected"]) == ((1, 0, 0), {(): 2})
    assert read["gpu_up"] == {FIRST: 1, SECOND: 0}


def test_a_failed_gpu_is_not_a_suspended_one(driver: Driver, make_gpu: MakeGpu, tmp_path: Path) -> None:
    """A container sees all GPUs of the host in sysfs: a suspended one need not be one that the driver counts."""
    plug_in(driver, 2, H100, NAME)
    driver.say(1, all="!15")
    for index, status in enumerate(("active", "active", "suspended")):
        write_power_state(tmp_path / "sys", index, status)
    read = collected(make_gpu())
    assert (counted(read), read["gpu_devices_expected"]) == ((1, 0, 0), {(): 2})


def test_a_failed_gpu_that_is_suspended_counts_once(driver: Driver, make_gpu: MakeGpu, tmp_path: Path) -> None:
    """Its UUID is unknown, whether it is active and fails, or suspended and not queried."""
    plug_in(driver, 1, H100, NAME)
    driver.say(0, all="!15")
    collector = make_gpu()
    for status, expected in (("active", (0, 0, 0)), ("suspended", (1, 1, 0))):
        write_power_state(tmp_path / "sys", 0, status)
        read = collected(collector)
        assert (counted(read), read["gpu_devices_expected"]) == (expected, {(): 1})


def test_the_active_one_of_two_gpus_is_found(driver: Driver, make_gpu: MakeGpu, tmp_path: Path) -> None:
    """A GPU that is suspended from the start counts, and no handle of it is opened; the other is found by address."""
    plug_in(driver, 2, H100, NAME)
    write_power_state(tmp_path / "sys", 0)
    write_power_state(tmp_path / "sys", 1, "active")
    collector = make_gpu()
    read = collected(collector)
    assert list(read["gpu_power_watts"]) == [SECOND]
    assert (read["gpu_devices"], read["gpu_devices_suspended"]) == ({(): 2}, {(): 1})
    assert driver.calls(0, "Handle") == 0
    write_power_state(tmp_path / "sys", 0, "active")
    assert len(collected(collector)["gpu_power_watts"]) == 2
