from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.collector import Unavailable
from modelhost_exporter.collectors import gpu
from modelhost_exporter.gpu.nvidia.nvml import Nvml
from tests.gpu.driver import H100, address, plug_in, uuid
from tests.gpu.querying import FIRST, NAME, SECOND, collected, of_first
from tests.support.programs import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.gpu.conftest import Clock, MakeGpu
    from tests.gpu.driver import Driver


def test_a_lost_gpu_is_counted_and_comes_back(
    driver: Driver, make_gpu: MakeGpu, caplog: pytest.LogCaptureFixture
) -> None:
    """A GPU that fell off the bus is not counted and not up; the others are read, and it returns without a restart."""
    caplog.set_level(logging.INFO)
    plug_in(driver, 2, H100, NAME)
    collector = make_gpu()
    collected(collector)
    driver.say(1, all="!15")
    for _ in range(2):
        read = collected(collector)
        assert (read["gpu_devices"], read["gpu_devices_expected"]) == ({(): 1}, {(): 2})
        assert read["gpu_up"] == {FIRST: 1, SECOND: 0}
        assert list(read["gpu_power_watts"]) == [FIRST]
        assert len(read["gpu_info"]) == 1
    driver.forget(1, "all")
    read = collected(collector)
    assert (read["gpu_devices"], read["gpu_up"]) == ({(): 2}, {FIRST: 1, SECOND: 1})
    assert [record.getMessage().split()[-1] for record in caplog.records if "GPU 1" in record.getMessage()] == [
        "failed",
        "again",
    ]


@pytest.mark.parametrize("says", ["!15", "!8", "!11", "!16", "!999", "!6", "!10", "!12", "!17", "!20"])
def test_a_gpu_that_fails_from_the_start_is_counted(
    says: str, driver: Driver, make_gpu: MakeGpu, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A GPU that was lost before the exporter started is expected; that is logged once, and detection is retried."""
    caplog.set_level(logging.WARNING)
    plug_in(driver, 2, H100, NAME)
    driver.say(1, all=says)
    nvml = Nvml()
    collector = make_gpu(nvml=nvml)
    for _ in range(2):
        read = collected(collector)
        assert (read["gpu_devices"], read["gpu_devices_expected"]) == ({(): 1}, {(): 2})
        assert read["gpu_up"] == {FIRST: 1}
    assert [r.getMessage() for r in caplog.records] == ["the NVIDIA driver counts GPUs that it cannot reach"]
    clock.seconds += 31
    driver.forget(1, "all")
    read = collected(collector)
    assert (read["gpu_devices"], read["gpu_up"]) == ({(): 2}, {FIRST: 1, SECOND: 1})
    assert nvml.generation == 2


def test_a_gpu_that_is_lost_beside_one_that_failed_from_the_start(
    driver: Driver, make_gpu: MakeGpu, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Each counts as missing once, also after the driver is reopened and after one returns under another index."""
    caplog.set_level(logging.WARNING)
    plug_in(driver, 3, H100, NAME)
    driver.say(2, all="!999")
    collector = make_gpu()
    counts = ("gpu_devices", "gpu_devices_expected")
    assert [collected(collector)[name] for name in counts] == [{(): 2}, {(): 3}]
    driver.say(0, all="!15")
    for _ in range(3):
        assert [collected(collector)[name] for name in counts] == [{(): 1}, {(): 3}]
        clock.seconds += 31
    assert [record.getMessage()[:5] for record in caplog.records] == ["the N", "GPU 0"], "each is said once"
    driver.say("-", Count=2)
    driver.forget(0, "all")
    driver.say(0, UUID=uuid(1))
    driver.say(1, UUID=uuid(0))
    clock.seconds += 480
    read = collected(collector)
    assert [read[name] for name in counts] == [{(): 2}, {(): 3}]
    assert read["gpu_up"] == {("0", uuid(1)): 1, ("1", uuid(0)): 1}


def test_the_only_gpu_fails_from_the_start(driver: Driver, make_gpu: MakeGpu) -> None:
    """A machine whose only GPU is lost expects one GPU and has none."""
    plug_in(driver, 1, H100, NAME)
    driver.say(0, all="!15")
    read = collected(make_gpu())
    assert (read["gpu_devices"], read["gpu_devices_expected"]) == ({(): 0}, {(): 1})


def test_a_gpu_without_permission_is_not_expected(driver: Driver, make_gpu: MakeGpu) -> None:
    """The driver counts all GPUs of the machine, and a container may have access to one of them."""
    plug_in(driver, 2, H100, NAME)
    driver.say(1, Handle="!4")
    read = collected(make_gpu())
    assert (read["gpu_devices"], read["gpu_devices_expected"]) == ({(): 1}, {(): 1})


def test_a_gpu_that_needs_a_reset_is_there_and_not_up(
    driver: Driver, make_gpu: MakeGpu, caplog: pytest.LogCaptureFixture
) -> None:
    """Every query fails until the reset, which is logged once; a GPU with any other value is up."""
    plug_in(driver, 2, H100, NAME)
    collector = make_gpu()
    collected(collector)
    driver.say(1, all="!16")
    for _ in range(2):
        read = collected(collector)
        assert (read["gpu_up"], read["gpu_devices"]) == ({FIRST: 1, SECOND: 0}, {(): 2})
        assert list(read["gpu_power_watts"]) == list(read["gpu_memory_total_bytes"]) == [FIRST]
    (record,) = [record for record in caplog.records if "GPU 1" in record.getMessage()]
    assert "NeedsReset" in record.fields["detail"]  # type: ignore[attr-defined]
    driver.forget(1, "all")
    driver.say(1, PowerUsage="!16")
    assert collected(collector)["gpu_up"] == {FIRST: 1, SECOND: 1}


def test_a_missing_gpu_is_looked_for_with_a_new_start(driver: Driver, make_gpu: MakeGpu, clock: Clock) -> None:
    """The library detects a GPU that was plugged in again only after a new initialisation, 30 s after it was missed."""
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


@pytest.mark.parametrize("before", [0, 1])
def test_a_gpu_that_the_driver_took_over_later_is_found(
    before: int, driver: Driver, make_gpu: MakeGpu, clock: Clock, tmp_path: Path
) -> None:
    """A GPU that was plugged in, or returned by a virtual machine, is found by one new initialisation."""
    bound = tmp_path / "sys/bus/pci/drivers/nvidia"
    (bound / address(0)).mkdir(parents=True)
    (bound / address(7)).mkdir()  # not for us: a container sees all of the host's
    plug_in(driver, before, H100, NAME)
    nvml = Nvml()
    collector = make_gpu(nvml=nvml)
    generations = []
    for _ in range(4):
        with contextlib.suppress(Unavailable):
            collected(collector)
        clock.seconds += 31
        generations.append(nvml.generation)
        (bound / address(1)).mkdir(exist_ok=True)
    assert generations == [1, 1, 2, 2]


def test_looking_for_a_missing_gpu_leaves_the_others_their_activity(
    driver: Driver, make_gpu: MakeGpu, clock: Clock
) -> None:
    """Restarting the library discards the latest means: a lost GPU must not cause that in every scrape."""
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


def test_a_call_that_hangs_costs_one_gpu(driver: Driver, make_gpu: MakeGpu) -> None:
    """A GPU whose driver hangs is present and not up; the others have all metrics; it recovers without a restart."""
    plug_in(driver, 3, H100, NAME)
    collector = make_gpu(gpu.GpuOptions(timeout=0.5))  # type: ignore[arg-type]
    collected(collector)
    driver.say(1, PowerUsage="hang")
    for _ in range(2):
        read = collected(collector)
        assert read["gpu_up"] == {FIRST: 1, SECOND: 0, ("2", uuid(2)): 1}
        assert read["gpu_power_watts"].keys() == {FIRST, ("2", uuid(2))}
        assert read["gpu_devices"] == {(): 3}
        assert SECOND in read["gpu_busy_seconds_total"]
    assert driver.calls(1, "PowerUsage") == 2
    driver.forget(1, "PowerUsage")
    wait_until(lambda: collected(collector)["gpu_up"][SECOND] == 1, "the GPU answers again")


def test_a_missing_gpu_is_not_looked_for_at_the_cost_of_others(driver: Driver, make_gpu: MakeGpu, clock: Clock) -> None:
    """While one GPU hangs and another is missing, the library cannot be restarted; the others are still measured."""
    plug_in(driver, 3, H100, NAME)
    nvml = Nvml(drain_seconds=0.05)
    collector = make_gpu(gpu.GpuOptions(timeout=0.5), nvml=nvml)  # type: ignore[arg-type]
    collected(collector)
    generation = nvml.generation
    driver.say(1, PowerUsage="hang")
    driver.say(2, all="!15")
    for _ in range(3):
        collected(collector)
        clock.seconds += 31
        assert collected(collector)["gpu_up"] == {FIRST: 1, SECOND: 0, ("2", uuid(2)): 0}
    assert nvml.generation == generation


def test_a_driver_that_hangs_while_it_is_opened_anew_has_its_gpus(driver: Driver, make_gpu: MakeGpu) -> None:
    """Its GPUs are present and not up: no query reported that they are lost."""
    plug_in(driver, 2, H100, NAME)
    collector = make_gpu(gpu.GpuOptions(timeout=0.5))  # type: ignore[arg-type]
    collected(collector)
    driver.say(0, PowerUsage="!1")  # whoever hears that opens it anew
    driver.say(1, Handle="hang")
    collected(collector)
    driver.forget(0, "PowerUsage")
    for _ in range(2):
        read = collected(collector)
        assert (read["gpu_devices"], read["gpu_up"]) == ({(): 2}, {FIRST: 1, SECOND: 0})
    driver.forget(1, "Handle")
    wait_until(lambda: collected(collector)["gpu_up"] == {FIRST: 1, SECOND: 1}, "both are back")


def test_a_driver_that_hangs_while_gpus_are_counted(driver: Driver, make_gpu: MakeGpu) -> None:
    """When the whole driver hangs, the known GPUs are still queried."""
    plug_in(driver, 1, H100, NAME)
    collector = make_gpu(gpu.GpuOptions(timeout=0.5))  # type: ignore[arg-type]
    collected(collector)
    driver.say("-", Count="hang")
    assert of_first(collected(collector), "power_watts") == {(): 650}
