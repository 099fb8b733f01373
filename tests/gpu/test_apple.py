"""GPUs of Macs, from what ioreg printed on several chips (values only)."""

from __future__ import annotations

import contextlib
import plistlib
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelhost_exporter.collector import Unavailable
from modelhost_exporter.collectors import gpu
from modelhost_exporter.gpu.apple.ioreg import Accelerator, parse
from modelhost_exporter.gpu.apple.source import AppleDependencies, AppleSource
from tests.support.readings import readings

if TYPE_CHECKING:
    from collections.abc import Callable

GIB = 2**30
M1_PRO = {
    "IOClass": "AGXAcceleratorG13X",
    "model": "Apple M1 Pro",
    "gpu-core-count": 16,
    "PerformanceStatistics": {
        "In use system memory (driver)": 0,
        "Alloc system memory": 14511046656,
        "Tiler Utilization %": 34,
        "recoveryCount": 0,
        "Renderer Utilization %": 34,
        "Device Utilization %": 34,
        "In use system memory": 7688503296,
    },
}
M4 = {
    "IOObjectClass": "AGXAcceleratorG16G",
    "model": b"Apple M4\0",
    "gpu-core-count": 10,
    "PerformanceStatistics": {
        "In use system memory (driver)": 0,
        "Alloc system memory": 2629632000,
        "Tiler Utilization %": 0,
        "lastRecoveryTime": 0,
        "Renderer Utilization %": 0,
        "Device Utilization %": 0,
        "In use system memory": 763723776,
    },
}
M4_MAX = {
    "IOClass": "AGXAcceleratorG16X",
    "model": "Apple M4 Max",
    "gpu-core-count": 40,
    "PerformanceStatistics": {"Device Utilization %": 16, "In use system memory": 2914402304},
}


def printed(*entries: Any) -> bytes:
    """Return what ioreg prints for these GPUs."""
    return plistlib.dumps(list(entries))


def mac(run: Callable[[], bytes]) -> gpu.GpuCollector:
    """Return the collector of a Mac."""
    source = AppleSource(AppleDependencies(run, lambda: 32 * GIB, "macOS 15.5"))
    return gpu.GpuCollector({"apple": source}, gpu.GpuOptions())


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (M1_PRO, Accelerator("Apple M1 Pro", "AGXAcceleratorG13X", 16, 0.34, 7688503296)),
        (M4, Accelerator("Apple M4", "AGXAcceleratorG16G", 10, 0.0, 763723776)),
        (M4_MAX, Accelerator("Apple M4 Max", "AGXAcceleratorG16X", 40, 0.16, 2914402304)),
        ({"IOClass": "AppleParavirtGPU"}, Accelerator("GPU", "AppleParavirtGPU", None, None, None)),
        (
            {"PerformanceStatistics": {"Device Utilization %": 655, "In use system memory": -1}},
            Accelerator("GPU", "", None, None, None),
        ),
        ({"PerformanceStatistics": [], "model": 7, "gpu-core-count": True}, Accelerator("GPU", "", None, None, None)),
    ],
    ids=["M1 Pro", "M4", "M4 Max", "virtual", "impossible", "other types"],
)
def test_the_chips(entry: dict[str, Any], expected: Accelerator) -> None:
    """Name, cores, utilisation and memory in use; what is missing or impossible is not known."""
    assert parse(printed(entry)) == [expected]


@given(st.binary(max_size=300))
def test_anything_else_is_one_error(output: bytes) -> None:
    """Whatever is printed is GPUs or a ValueError; an unparsed property list has none."""
    found: list[Accelerator] = []
    with contextlib.suppress(ValueError):
        found = parse(output)
    assert found == []
    assert parse(plistlib.dumps({"output": output})) == []


def test_a_mac_has_the_families_of_other_gpus() -> None:
    """Its memory is the machine's; power needs another interface, and is absent."""
    read = readings(mac(lambda: printed(M1_PRO)).collect())
    key = ("0", "AGXAcceleratorG13X-0")
    assert read["gpu_info"] == {(*key, "apple", "Apple M1 Pro (16 cores)", "macOS 15.5", "", "", ""): 1}
    assert read["gpu_utilization_ratio"] == {key: 0.34}
    assert read["gpu_memory_total_bytes"] == {key: 32 * GIB}
    assert read["gpu_memory_used_bytes"] == {key: 7688503296}
    assert read["gpu_unified_memory"] == {key: 1}
    assert "gpu_power_watts" not in read


def test_a_mac_without_a_gpu_has_none() -> None:
    """As a virtual one without acceleration."""
    with pytest.raises(Unavailable, match="no GPU in IOKit's registry"):
        readings(mac(lambda: b"").collect())


@pytest.mark.parametrize(
    "error", [OSError("no such file"), subprocess.TimeoutExpired("ioreg", 5), subprocess.CalledProcessError(1, "ioreg")]
)
def test_a_command_that_fails_later_is_a_gpu_that_does_not_answer(error: Exception) -> None:
    """The GPU stays expected, and is not up until the command works again."""
    outcomes: list[bytes | Exception] = [printed(M4), printed(M4), error, printed(M4)]

    def run() -> bytes:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    machine = mac(run)
    assert [readings(machine.collect())["gpu_up"][("0", "AGXAcceleratorG16G-0")] for _ in range(3)] == [1, 0, 1]
