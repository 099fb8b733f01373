from __future__ import annotations

from typing import TYPE_CHECKING

from tests.gpu.driver import GIB, H100, plug_in, uuid
from tests.gpu.querying import NAME, collected, named, of_first

if TYPE_CHECKING:
    from tests.gpu.conftest import MakeGpu
    from tests.gpu.driver import Driver


def test_unified_memory_is_the_hosts(driver: Driver, make_gpu: MakeGpu) -> None:
    """A GPU without memory of its own has the host's total, the sum of its processes, and a metric that marks it."""
    card = {key: value for key, value in H100.items() if not key.startswith("MemoryInfo")}
    plug_in(driver, 1, card, "NVIDIA GB10")
    driver.say(0, ComputeRunningProcesses=f"11:{3 * GIB}: 12:{4 * GIB}:")
    read = collected(make_gpu(host_memory=lambda: 128 * GIB))
    assert of_first(read, "unified_memory") == {(): 1}
    assert of_first(read, "memory_total_bytes") == {(): 128 * GIB}
    assert of_first(read, "memory_used_bytes") == {(): 7 * GIB}
    assert not of_first(read, "memory_free_bytes")
    assert not [name for name in read if name.startswith("gpu_pcie_link")], "the link is inside the chip"


def test_unknown_memory_is_absent(driver: Driver, make_gpu: MakeGpu) -> None:
    """A refused query is not unified memory, a total of 0 is absent, and an unknown size makes the sum unknown."""
    plug_in(driver, 3, H100, NAME)
    driver.say(0, MemoryInfo="!4", MemoryInfo_v2="!4")
    driver.say(1, MemoryInfo_v2="0 0 0 0")
    driver.say(2, MemoryInfo="!3", MemoryInfo_v2="!13", ComputeRunningProcesses="11:-: 12:5:")
    read = collected(make_gpu(host_memory=lambda: 100))
    assert read["gpu_memory_total_bytes"] == {("2", uuid(2)): 100}
    assert "gpu_memory_used_bytes" not in read
    assert list(read["gpu_unified_memory"]) == [("2", uuid(2))]


def test_an_older_driver_has_no_reserved_memory(driver: Driver, make_gpu: MakeGpu) -> None:
    """Without the second version of the memory call the first is taken, and reserved memory is absent."""
    plug_in(driver, 1, H100, NAME)
    driver.say(0, MemoryInfo_v2="!13")
    read = collected(make_gpu())
    assert of_first(read, "memory_used_bytes") == {(): 61 * GIB}
    assert not of_first(read, "memory_reserved_bytes")


def test_a_sentinel_is_not_a_size(driver: Driver, make_gpu: MakeGpu) -> None:
    """A sentinel for 'not available' is absent, each size separately; as a throttle mask it is not every reason."""
    unknown = 2**64 - 1
    plug_in(driver, 1, H100 | {"MigMode": "1 1", "MaxMigDeviceCount": 1, "CurrentClocksEventReasons": unknown}, NAME)
    driver.say(0, {"mig.0.GpuInstanceId": 1, "mig.0.MemoryInfo_v2": f"{unknown} 5 {unknown} 1"})
    driver.say(0, MemoryInfo_v2=f"{80 * GIB} {unknown} {unknown} {GIB}")
    read = collected(make_gpu())
    assert of_first(read, "memory_total_bytes") == {(): 80 * GIB}
    assert of_first(read, "memory_reserved_bytes") == {(): GIB}
    assert of_first(read, "mig_memory_used_bytes") == {("1", ""): 5}
    absent = ("memory_used_bytes", "memory_free_bytes", "mig_memory_total_bytes", "mig_memory_free_bytes", "throttled")
    assert not [name for name in absent if of_first(read, name)]


def test_memory_by_process_is_by_name(driver: Driver, make_gpu: MakeGpu) -> None:
    """Sizes are summed by name, without duplicates of two lists; a name with an unknown size has no sum."""
    plug_in(driver, 1, H100, NAME)
    driver.say(0, ComputeRunningProcesses="11:100: 12:200: 13:-: 15:9:", GraphicsRunningProcesses="11:100: 14:7:")
    collector = make_gpu(names=named({11: "vllm", 12: "vllm", 13: "wsl", 14: "Xorg", 15: "wsl"}))
    assert of_first(collected(collector), "process_memory_bytes") == {("vllm",): 300, ("Xorg",): 7}
    driver.say(0, ComputeRunningProcesses="", GraphicsRunningProcesses="14:7:")
    assert of_first(collected(collector), "process_memory_bytes") == {("Xorg",): 7}


def test_a_list_of_processes_that_fails_for_a_moment_makes_all_unknown(driver: Driver, make_gpu: MakeGpu) -> None:
    """The other lists alone would result in wrong values: 0 bytes used, and a model that is alone on its GPU."""
    plug_in(driver, 1, H100 | {"MemoryInfo": "!3", "MemoryInfo_v2": "!3"}, "NVIDIA GB10")
    driver.say(0, ComputeRunningProcesses="!999", GraphicsRunningProcesses="14:7:", MPSComputeRunningProcesses="!3")
    collector = make_gpu(names=named({11: "vllm", 14: "Xorg"}), host_memory=lambda: 100)
    read = collected(collector)
    assert not of_first(read, "memory_used_bytes")
    assert not of_first(read, "process_memory_bytes")
    driver.say(0, ComputeRunningProcesses="11:5:")
    read = collected(collector)
    assert of_first(read, "memory_used_bytes") == {(): 12}
    assert of_first(read, "process_memory_bytes") == {("vllm",): 5, ("Xorg",): 7}
