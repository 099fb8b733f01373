"""GPUs, CPUs, disks and file systems of the message."""

from __future__ import annotations

import pytest

from modelhost_exporter.live.file_systems import MAX_FILE_SYSTEMS
from modelhost_exporter.live.gpus import MAX_MEMORY_USERS
from modelhost_exporter.live.model_folders import ModelFolder
from modelhost_exporter.scraping.outcome import Outcome
from tests.live.client import check_message
from tests.live.machine import Machine

CARD = {"gpu": "0", "uuid": "GPU-0"}


def file_system(machine: Machine, mountpoint: str, size: float, used: float, device: str = "") -> None:
    """Add a file system of which 10 are reserved for root."""
    labels = {"device": device or f"/dev{mountpoint}", "mountpoint": mountpoint, "fstype": "ext4"}
    for name, value in (("size", size), ("free", size - used), ("available", size - used - 10)):
        machine.set(f"filesystem_{name}_bytes", value, **labels)
    machine.set("filesystem_readonly", 0, **labels)


@pytest.mark.parametrize(
    ("sensor", "limits", "expected"),
    [
        ("gpu", {"shutdown": 92, "slowdown": 89, "memory_max": 95, "gpu_max": 87}, 87),
        ("gpu", {"shutdown": 92, "slowdown": 89}, 89),
        ("gpu", {"shutdown": 92}, None),
        ("edge", {"edge_critical": 100, "junction_critical": 110, "edge_emergency": 105}, 100),
        ("junction", {"edge_critical": 100}, None),
    ],
)
def test_the_limit_of_a_temperature_is_that_of_its_sensor(
    sensor: str, limits: dict[str, float], expected: float | None
) -> None:
    """At which the GPU slows down, not at which it is shut down."""
    machine = Machine()
    machine.gpu("0")
    machine.set("gpu_temperature_celsius", 60, **CARD, sensor=sensor)
    for limit, value in limits.items():
        machine.set("gpu_temperature_limit_celsius", value, **CARD, type=limit)
    (gpu,) = machine.read()["gpus"]
    assert (gpu["temperature"], gpu["temperatureLimit"]) == (60, expected)


def test_only_what_slows_a_gpu_down_is_throttling() -> None:
    """Neither clocks that somebody has set nor reasons that do not hold now."""
    machine = Machine()
    machine.gpu("0")
    for reason, value in (("hw_thermal", 1), ("sw_power_cap", 1), ("sync_boost", 0), ("applications_clocks", 1)):
        machine.set("gpu_throttled", value, **CARD, reason=reason)
    message = machine.read()
    check_message(message)
    assert message["gpus"][0]["throttledBy"] == ["hw_thermal", "sw_power_cap"]


def test_memory_is_divided_by_the_names_of_processes() -> None:
    """Those with the most; of a GPU that is split, all instances together."""
    machine = Machine()
    machine.gpu("0", memory_used_bytes=99)
    for number in range(2 * MAX_MEMORY_USERS):
        machine.set("gpu_process_memory_bytes", number, **CARD, process=f"p{number}")
    split = {"gpu": "1", "uuid": "GPU-1"}
    machine.gpu("1", memory_used_bytes=50)
    for instance, held in (("1", 20), ("2", 30)):
        machine.set("gpu_mig_process_memory_bytes", held, **split, gpu_instance=instance, profile="1g", process="vllm")
    first, second = machine.read()["gpus"]
    assert [user["bytes"] for user in first["memoryUsers"]] == list(range(15, 15 - MAX_MEMORY_USERS, -1))
    assert second["memoryUsers"] == [{"name": "vllm", "bytes": 50}]


def test_the_state_of_a_gpu() -> None:
    """One that is suspended is up without numbers; one that is lost has no name."""
    machine = Machine()
    machine.gpu("0", utilization_ratio=0.5)
    machine.gpu("1")
    machine.gpu("2")
    machine.set("gpu_up", 0, gpu="2", uuid="GPU-2")
    machine.set("gpu_up", 0, gpu="3", uuid="GPU-3")
    assert [gpu["state"] for gpu in machine.read()["gpus"]] == ["ok", "suspended", "silent", "lost"]


@pytest.mark.parametrize(
    ("outcome", "state", "detail"),
    [
        (None, "off", None),
        (Outcome("ok", 0.0), "found", None),
        (Outcome("unavailable", 0.0, "no library"), "none", "no library"),
        (Outcome("unavailable", 0.0, "no library", undetermined=True), "unknown", "no library"),
        (Outcome("failed", 0.0, "DriverFailed: !"), "failed", "DriverFailed: !"),
        (Outcome("timeout", 0.0, "no answer"), "failed", "no answer"),
    ],
)
def test_no_gpu_is_known_only_where_all_drivers_were_looked_for(
    outcome: Outcome | None, state: str, detail: str | None
) -> None:
    """A driver that is missing, fails or hangs is something else."""
    machine = Machine()
    machine.gpu_outcome = outcome
    assert machine.read()["gpuDetection"] == {"state": state, "detail": detail}


def test_a_replaced_driver_needs_a_restart() -> None:
    """Whether or not its GPUs can still be read."""
    machine = Machine()
    machine.set("gpu_restart_required", 1)
    assert machine.read()["gpuDetection"]["state"] == "replaced"
    machine.set("gpu_restart_required", 0)
    assert machine.read()["gpuDetection"]["state"] == "found"


def test_each_cpu_has_its_use_in_whole_percent() -> None:
    """By number, 10 after 9; waiting for a disk is no work; one that came online counts from 0."""
    machine = Machine()

    def work(cpu: str, busy: float, idle: float) -> None:
        for mode, seconds in (("user", busy), ("idle", idle / 2), ("iowait", idle / 4), ("steal", idle / 4)):
            machine.set("cpu_seconds_total", seconds, cpu=cpu, mode=mode)

    for cpu in ("9", "10"):
        work(cpu, 100.0, 900.0)
    assert machine.read()["cpuCoreUsage"] is None
    work("9", 101.0, 901.0)
    work("10", 100.0, 902.0)
    work("11", 0.333, 0.667)
    assert machine.read()["cpuCoreUsage"] == [50, 0, 33]
    machine.forget()
    assert machine.read()["cpuCoreUsage"] is None


def test_disks_have_rates_over_ten_seconds() -> None:
    """Of all physical disks together."""
    machine = Machine()
    for moment in range(8):
        machine.set("host_disk_read_bytes_total", 2000.0 * moment)
        machine.set("host_disk_written_bytes_total", 1e6 * moment)
        message = machine.read()
    assert message["diskStats"] == {
        "bytesReadPerSecond": pytest.approx(1000),
        "bytesWrittenPerSecond": pytest.approx(5e5),
    }


def test_limits_of_the_container_are_named() -> None:
    """Only where they are lower than what the machine has."""
    machine = Machine()
    machine.set("host_cpu_cores", 16)
    machine.set("cpu_logical_cores", 16)
    machine.memory(64e9, 10e9)
    machine.set("memory_total_bytes", 64e9)
    assert machine.read()["limits"] == {"cpuCores": None, "memoryBytes": None}
    machine.set("host_cpu_cores", 2.5)
    machine.memory(8e9, 1e9)
    assert machine.read()["limits"] == {"cpuCores": 2.5, "memoryBytes": 8e9}


def test_swap_is_in_bytes() -> None:
    """Of the machine."""
    machine = Machine()
    machine.set("swap_total_bytes", 8e9)
    machine.set("swap_used_bytes", 1e9)
    message = machine.read()
    assert (message["swapUsed"], message["swapTotal"]) == (1e9, 8e9)


def test_file_systems_with_models_are_first() -> None:
    """Then that at /, then the largest; each device once, under the mount point that has models."""
    machine = Machine()
    file_system(machine, "/", 1000, 500)
    file_system(machine, "/data", 4000, 100, "/dev/data")
    file_system(machine, "/bind", 4000, 100, "/dev/data")
    file_system(machine, "/data/models", 300, 100)
    file_system(machine, "/big", 9000, 100)
    machine.folders = [
        ModelFolder("Ollama", "/data/models/ollama"),
        ModelFolder("llama.cpp", "/data/models"),
        ModelFolder("llama.cpp", "/data/models/a.gguf"),
        ModelFolder("Hugging Face", "/data/modelsx/hub"),
    ]
    found = machine.read()["fileSystems"]
    assert [(one["mountpoint"], one["models"]) for one in found] == [
        ("/data", ["Hugging Face"]),
        ("/data/models", ["Ollama", "llama.cpp"]),
        ("/", []),
        ("/big", []),
    ]
    assert found[2]["percent"] == pytest.approx(100 * 500 / 990)
    assert (found[2]["used"], found[2]["total"], found[2]["available"], found[2]["readOnly"]) == (500, 1000, 490, False)


def test_a_file_system_that_does_not_respond_is_listed() -> None:
    """Without numbers; the message has a limited number of file systems."""
    machine = Machine()
    dead = {"device": "nas:/models", "mountpoint": "/nas", "fstype": "nfs4"}
    machine.set("filesystem_device_error", 1, **dead)
    machine.set("filesystem_readonly", 0, **dead)
    machine.folders = [ModelFolder("llama.cpp", "/nas/a.gguf")]
    for number in range(20):
        file_system(machine, f"/m{number}", 100 + number, 1)
    message = machine.read()
    check_message(message)
    assert len(message["fileSystems"]) == MAX_FILE_SYSTEMS
    first = message["fileSystems"][0]
    assert (first["mountpoint"], first["used"], first["total"], first["models"]) == ("/nas", None, None, ["llama.cpp"])
