from __future__ import annotations

from typing import TYPE_CHECKING

from tests.gpu.asking import FIRST, NAME, SECOND, collected, of_first, put_to_sleep
from tests.gpu.driver import H100, plug_in
from tests.programs import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.gpu.conftest import MakeGpu
    from tests.gpu.driver import Driver


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
    assert read["gpu_up"] == {FIRST: 1, SECOND: 1}
    assert list(read["gpu_power_watts"]) == [SECOND]
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
    assert list(read["gpu_power_watts"]) == [SECOND]
    assert (read["gpu_devices"], read["gpu_devices_suspended"]) == ({(): 2}, {(): 1})
    assert driver.calls(0, "Handle") == 0
    put_to_sleep(tmp_path / "sys", 0, "active")
    assert len(collected(collector)["gpu_power_watts"]) == 2
