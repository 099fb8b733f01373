from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.collector import CollectorContext, CollectorOptions
from modelhost_exporter.collectors.memory import MemoryCollector, create
from modelhost_exporter.linux.cgroups import ContainerUse
from tests.support.machine import FILES, psutil_double, write
from tests.support.readings import readings

if TYPE_CHECKING:
    from pathlib import Path


def test_memory_and_swap_in_bytes(tmp_path: Path) -> None:
    """Memory and swap are psutil's bytes under the contract's names."""
    read = readings(MemoryCollector(tmp_path, psutil_double()).collect())
    assert {
        name: value[()] for name, value in read.items() if name.endswith("_bytes") and not name.startswith("host_")
    } == {
        "memory_total_bytes": 1000,
        "memory_available_bytes": 600,
        "memory_used_bytes": 400,
        "memory_free_bytes": 100,
        "memory_cached_bytes": 250,
        "memory_buffers_bytes": 50,
        "swap_total_bytes": 800,
        "swap_used_bytes": 300,
        "swap_free_bytes": 500,
    }


def test_what_memory_is_used_for(tmp_path: Path) -> None:
    """Each name in meminfo has its family, in bytes; huge pages are numbers of pages."""
    read = readings(MemoryCollector(write(tmp_path, FILES) / "proc", psutil_double()).collect())
    names = (
        *(
            "dirty",
            "writeback",
            "anonymous",
            "anonymous_hugepages",
            "shared",
            "mapped",
            "locked",
            "unevictable",
            "slab",
        ),
        *("slab_reclaimable", "slab_unreclaimable", "kernel_stack", "page_tables", "per_cpu", "committed"),
        *("commit_limit", "hugepage_size", "hardware_corrupted"),
    )
    assert [read[f"memory_{name}_bytes"][()] for name in names] == [1024 * number for number in range(1, 19)]
    pages = ("hugepages", "hugepages_free", "hugepages_reserved", "hugepages_surplus")
    assert [read[f"memory_{name}"][()] for name in pages] == [101, 102, 103, 104]


def test_swapped_pages_have_the_machine_s_size(tmp_path: Path) -> None:
    """On a kernel with 64 KiB pages swap traffic counts 64 KiB a page, not psutil's 4."""
    write(tmp_path, FILES)
    read = readings(MemoryCollector(tmp_path / "proc", psutil_double(), page_bytes=65536).collect())
    assert read["swap_in_bytes_total"] == {(): 3 * 65536}
    assert read["swap_out_bytes_total"] == {(): 5 * 65536}


def test_paging_counters(tmp_path: Path) -> None:
    """Major faults and out-of-memory kills are the kernel's own counts."""
    write(tmp_path, FILES)
    read = readings(MemoryCollector(tmp_path / "proc", psutil_double()).collect())
    assert read["major_page_faults_total"] == {(): 11}
    assert read["oom_kills_total"] == {(): 2}


def test_without_vmstat_swap_traffic_is_psutil_s(tmp_path: Path) -> None:
    """Off Linux psutil's own swap counters are the source, and the kernel's paging counters are absent."""
    read = readings(MemoryCollector(tmp_path, psutil_double()).collect())
    assert (read["swap_in_bytes_total"], read["swap_out_bytes_total"]) == ({(): 4096}, {(): 8192})
    assert not {"major_page_faults_total", "oom_kills_total"} & set(read)


def test_what_an_old_kernel_does_not_count_is_absent(tmp_path: Path) -> None:
    """A vmstat without oom_kill or swap (a kernel built without it) leaves those families out."""
    read = readings(MemoryCollector(write(tmp_path, {"vmstat": "pgmajfault 4\n"}), psutil_double()).collect())
    assert read["major_page_faults_total"] == {(): 4}
    assert not {"oom_kills_total", "swap_in_bytes_total", "swap_out_bytes_total"} & set(read)


def test_what_the_platform_does_not_say_is_absent(tmp_path: Path) -> None:
    """MacOS and Windows have no buffers or cached memory; a zero would be wrong."""
    source = psutil_double(virtual_memory=lambda: SimpleNamespace(total=10, available=5, used=5, free=5, percent=50.0))
    read = readings(MemoryCollector(tmp_path, source).collect())
    assert not {"memory_cached_bytes", "memory_buffers_bytes"} & set(read)
    assert read["memory_total_bytes"] == {(): 10}


def test_this_machine() -> None:
    """On the real machine the parts of memory lie within the whole."""
    read = {
        name: value[()] for name, value in readings(create(CollectorOptions(), CollectorContext()).collect()).items()
    }
    assert 0 < read["memory_available_bytes"] <= read["memory_total_bytes"]
    assert 0 < read["memory_used_bytes"] < read["memory_total_bytes"]
    assert read["swap_used_bytes"] + read["swap_free_bytes"] == read["swap_total_bytes"]
    assert read["major_page_faults_total"] > 0


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        (ContainerUse(), (1000, 600)),
        (ContainerUse(memory_bytes=500, memory_used_bytes=450), (500, 50)),
        (ContainerUse(memory_bytes=500, memory_used_bytes=501), (500, 0)),
        (ContainerUse(memory_bytes=900, memory_used_bytes=10), (900, 600)),
        (ContainerUse(memory_bytes=5000, memory_used_bytes=10), (1000, 600)),
        (ContainerUse(memory_bytes=500), (1000, 600)),
    ],
    ids=["no limit", "limit", "full", "a machine that is fuller", "limit beyond the machine", "use is not known"],
)
def test_the_memory_that_programs_can_use(container: ContainerUse, expected: tuple[int, int], tmp_path: Path) -> None:
    """The limit of the container that programs share counts where it is below what the machine has."""
    read = readings(MemoryCollector(tmp_path, psutil_double(), container=lambda: container).collect())
    assert read["memory_total_bytes"] == {(): 1000}
    assert (read["host_memory_total_bytes"][()], read["host_memory_available_bytes"][()]) == expected
