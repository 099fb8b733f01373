from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from modelhost_exporter.collectors.memory import MemoryCollector as Collector
from modelhost_exporter.linux.memory import Memory
from tests.support.machine import write
from tests.support.readings import readings

MEMINFO = (
    "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 600 kB\nBuffers: 50 kB\nCached: 200 kB\nSReclaimable: 25 kB\n"
    "SwapTotal: 80 kB\nSwapFree: 50 kB\nHugePages_Total: 0\n"
)
_PARTS = (*(f"memory_{part}_" for part in ("total", "available", "used", "free", "cached", "buffers")), "swap")


def measured(tmp_path: Path, meminfo: str) -> dict[str, float]:
    """Return the memory of this meminfo, in KiB."""
    read = readings(Collector(tmp_path, Memory(write(tmp_path, {"meminfo": meminfo}))).collect())
    return {name.removesuffix("_bytes"): value[()] / 1024 for name, value in read.items() if name.startswith(_PARTS)}


def test_memory_and_swap(tmp_path: Path) -> None:
    """Used is what is not available, and cached includes reclaimable slab."""
    assert measured(tmp_path, MEMINFO) == {
        "memory_total": 1000,
        "memory_available": 600,
        "memory_used": 400,
        "memory_free": 100,
        "memory_cached": 225,
        "memory_buffers": 50,
        "swap_total": 80,
        "swap_used": 30,
        "swap_free": 50,
    }


@pytest.mark.parametrize("odd", ["", "Buffers:\n", "Buffers: odd kB\n", "Buffers: -5 kB\n", "\udcff\n", "odd\n\n"])
def test_an_odd_line_costs_only_itself(odd: str, tmp_path: Path) -> None:
    """Only the value of the invalid line is missing."""
    read = measured(tmp_path, MEMINFO.replace("Buffers: 50 kB\n", odd.encode("utf-8", "replace").decode()))
    assert set(read) == set(measured(tmp_path, MEMINFO)) - {"memory_buffers"}


def test_available_beyond_the_total(tmp_path: Path) -> None:
    """If the host's available memory exceeds the container's total, the free memory is used."""
    assert measured(tmp_path, MEMINFO.replace("600", "6000"))["memory_available"] == 100


ARCSTATS = (
    "9 1 0x01 147 39984 8021498264 1045678901234\nname                            type data\n"
    "hits                            4    77\nc                               4    850000\n"
    "c_min                           4    {minimum}\nc_max                           4    900000\n"
    "size                            4    {size}\nodd\n"
)


@pytest.mark.parametrize(
    ("size", "minimum", "available"),
    [(800 * 1024, 18 * 1024, 824), (10, 20, 42), (5_000_000, 0, 1000), ("odd", 0, 42), (-1, 0, 42)],
    ids=["large", "at its minimum", "beyond the total", "odd", "negative"],
)
def test_the_cache_of_zfs_is_available(size: str, minimum: str, available: int, tmp_path: Path) -> None:
    """What exceeds the cache's minimum is available, which the kernel's own number does not include."""
    write(tmp_path, {"spl/kstat/zfs/arcstats": ARCSTATS.format(size=size, minimum=minimum)})
    read = measured(tmp_path, MEMINFO.replace("600", "42"))
    assert (read["memory_available"], read["memory_used"]) == (available, 1000 - available)


@pytest.mark.parametrize("line", ["", "MemAvailable: 0 kB\n"])
def test_kernels_without_available_memory(line: str, tmp_path: Path) -> None:
    """Available memory is then estimated as free plus cached memory."""
    assert measured(tmp_path, MEMINFO.replace("MemAvailable: 600 kB\n", line))["memory_available"] == 300


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_the_same_as_psutil() -> None:
    """On the real machine memory and swap are psutil's, but for what changes meanwhile."""
    ours, theirs = Memory(Path("/proc")), psutil.virtual_memory()
    memory = ours.virtual_memory()
    assert memory.total == theirs.total
    for name in memory._fields:
        assert getattr(memory, name) == pytest.approx(getattr(theirs, name), abs=256 * 2**20)
    assert ours.swap_memory()[:2] == psutil.swap_memory()[:2]
