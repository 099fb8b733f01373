"""Memory, swap, major page faults, and kills by the kernel for lack of memory."""

from __future__ import annotations

import mmap
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import psutil

from modelhost_exporter.collector import (
    Collector,
    CollectorContext,
    CollectorOptions,
    SimulatedHost,
    Unavailable,
    parts,
)
from modelhost_exporter.linux import memory as linux
from modelhost_exporter.linux.cgroups import MEMORY, UNLIMITED, Container, ContainerUse
from modelhost_exporter.linux.kernel_files import parse_counts, read
from modelhost_exporter.metrics.families import counter, gauge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

_MEMORY = {
    "total": gauge("memory_total_bytes", "Physical memory that the operating system can use."),
    "available": gauge(
        "memory_available_bytes",
        "Memory that programs can use without swapping.",
        note="Free memory and what caches give back, that of ZFS included. Alert on this one, not on free memory.",
    ),
    "used": gauge(
        "memory_used_bytes",
        "Memory used by programs and the kernel (total - available).",
    ),
    "free": gauge(
        "memory_free_bytes", "Unused memory.", note="Low on a healthy machine, whose spare memory caches files."
    ),
    "cached": gauge(
        "memory_cached_bytes", "Memory that holds cached files (page cache, reclaimable slab, shared memory)."
    ),
    "buffers": gauge("memory_buffers_bytes", "Memory that holds raw disk blocks."),
}
# name in /proc/meminfo (Linux Documentation/filesystems/proc.rst) → family
_DETAILS = {
    "Dirty": gauge("memory_dirty_bytes", "Memory with data that has yet to be written to disk."),
    "Writeback": gauge("memory_writeback_bytes", "Memory with data that is being written to disk."),
    "AnonPages": gauge("memory_anonymous_bytes", "Memory of programs that is not from files."),
    "AnonHugePages": gauge("memory_anonymous_hugepages_bytes", "Part of that in transparent huge pages."),
    "Shmem": gauge("memory_shared_bytes", "Shared memory and files in tmpfs, such as those of /dev/shm."),
    "Mapped": gauge("memory_mapped_bytes", "Files that programs have mapped, such as the weights of models."),
    "Mlocked": gauge("memory_locked_bytes", "Memory that programs have locked, so that it is never swapped."),
    "Unevictable": gauge(
        "memory_unevictable_bytes", "Memory that cannot be freed or swapped, the locked one included."
    ),
    "Slab": gauge("memory_slab_bytes", "Memory of the kernel's own data structures."),
    "SReclaimable": gauge("memory_slab_reclaimable_bytes", "Part of that which the kernel frees when memory is short."),
    "SUnreclaim": gauge("memory_slab_unreclaimable_bytes", "Part of that which the kernel cannot free."),
    "KernelStack": gauge("memory_kernel_stack_bytes", "Memory of the kernel's stacks, one for each thread."),
    "PageTables": gauge("memory_page_tables_bytes", "Memory that maps programs' addresses to memory."),
    "Percpu": gauge("memory_per_cpu_bytes", "Memory that the kernel has for each CPU."),
    "Committed_AS": gauge("memory_committed_bytes", "Memory that programs would need if they used all they asked for."),
    "CommitLimit": gauge(
        "memory_commit_limit_bytes",
        "Memory that programs may ask for.",
        note="In force with `vm.overcommit_memory=2` only.",
    ),
    "HugePages_Total": gauge("memory_hugepages", "Huge pages of the default size that are set apart."),
    "HugePages_Free": gauge("memory_hugepages_free", "Huge pages that are not in use."),
    "HugePages_Rsvd": gauge("memory_hugepages_reserved", "Free huge pages that programs have been promised."),
    "HugePages_Surp": gauge("memory_hugepages_surplus", "Huge pages beyond the number that was configured."),
    "Hugepagesize": gauge("memory_hugepage_size_bytes", "Default size of a huge page."),
    "HardwareCorrupted": gauge("memory_hardware_corrupted_bytes", "Memory taken out of use because it is broken."),
}
_SWAP = {
    "total": gauge("swap_total_bytes", "Swap space."),
    "used": gauge("swap_used_bytes", "Swap space in use."),
    "free": gauge("swap_free_bytes", "Swap space free."),
}
SWAPPED_IN = counter(
    "swap_in_bytes", "Bytes read back from swap since boot.", note="A steady rate means that memory is short."
)
SWAPPED_OUT = counter("swap_out_bytes", "Bytes written to swap since boot.")
MAJOR_FAULTS = counter("major_page_faults", "Page faults that had to read from disk since boot.")
OOM_KILLS = counter("oom_kills", "Processes the kernel killed for lack of memory since boot, in every cgroup.")
HOST_TOTAL = gauge(
    "host_memory_total_bytes",
    "Memory that programs here can use at most: of the machine, or the limit of the container that they share.",
    note="A limit counts if the exporter is not the first process of its container and `path.rootfs` is not set.",
)
HOST_AVAILABLE = gauge("host_memory_available_bytes", "Memory that programs here can still use, within the same limit.")
FAMILIES = (
    *_MEMORY.values(),
    *_DETAILS.values(),
    *_SWAP.values(),
    SWAPPED_IN,
    SWAPPED_OUT,
    MAJOR_FAULTS,
    OOM_KILLS,
    HOST_TOTAL,
    HOST_AVAILABLE,
)


class MemoryCollector:
    """Memory, swap and the kernel's paging counters (/proc/vmstat).

    Swapped pages are read from vmstat where it exists: psutil counts every page as 4 KiB, which is wrong on kernels
    with larger pages (Grace, some arm64 and ppc64 distributions).
    """

    def __init__(
        self,
        procfs: Path,
        source: Any = psutil,
        page_bytes: int = mmap.PAGESIZE,
        container: Callable[[], ContainerUse] = lambda: UNLIMITED,
    ) -> None:
        self._vmstat = procfs / "vmstat"
        self._meminfo = procfs / "meminfo"
        self._source = source
        self._page_bytes = page_bytes
        self._container = container

    def collect(self) -> Iterator[Metric]:
        """Yield memory, swap and paging."""
        source = self._source.reading() if isinstance(self._source, linux.Memory) else self._source
        readers = (self._memory, self._swap, self._paging, self._details)
        yield from parts(*(partial(reader, source) for reader in readers))

    def _memory(self, source: Any) -> Iterator[Metric]:
        memory = source.virtual_memory()
        for field, family in _MEMORY.items():
            yield from family.of(getattr(memory, field, None))
        yield from self._of_host(memory.total, memory.available)

    def _of_host(self, total: int | None, available: int | None) -> Iterator[Metric]:
        use = self._container()
        if use.memory_bytes is not None and use.memory_used_bytes is not None:
            total = _least(total, use.memory_bytes)
            available = _least(available, max(0, use.memory_bytes - use.memory_used_bytes))
        yield from HOST_TOTAL.of(total)
        yield from HOST_AVAILABLE.of(available)

    def _swap(self, source: Any) -> Iterator[Metric]:
        swap = source.swap_memory()
        for field, family in _SWAP.items():
            yield from family.of(getattr(swap, field))

    def _paging(self, source: Any) -> Iterator[Metric]:
        try:
            paging = parse_counts(read(self._vmstat))
        except Unavailable:
            swap = source.swap_memory()  # psutil's on other systems; Linux without vmstat has no sin and sout
            yield from SWAPPED_IN.of(getattr(swap, "sin", None))
            yield from SWAPPED_OUT.of(getattr(swap, "sout", None))
            return
        yield from SWAPPED_IN.of(self._bytes(paging.get("pswpin")))
        yield from SWAPPED_OUT.of(self._bytes(paging.get("pswpout")))
        yield from MAJOR_FAULTS.of(paging.get("pgmajfault"))
        yield from OOM_KILLS.of(paging.get("oom_kill"))

    def _details(self, source: Any) -> Iterator[Metric]:
        is_read = isinstance(source, linux.Memory)
        found = source.meminfo if is_read else linux.parse_meminfo(read(self._meminfo))
        for name, family in _DETAILS.items():
            yield from family.of(found.get(name))

    def _bytes(self, pages: int | None) -> int | None:
        return None if pages is None else pages * self._page_bytes


def _least(first: int | None, second: int) -> int:
    return second if first is None else min(first, second)


def create(_options: CollectorOptions, context: CollectorContext) -> Collector:
    """Build the memory collector."""
    if sys.platform != "linux":
        return MemoryCollector(context.paths.procfs)
    memory = linux.Memory(context.paths.procfs)
    return MemoryCollector(context.paths.procfs, memory, container=Container.measured_in(context.paths, MEMORY))


def create_simulated(_options: CollectorOptions, context: CollectorContext, host: SimulatedHost) -> Collector:
    """Build the collector for ``--demo``."""
    return MemoryCollector(context.paths.procfs, host.psutil, host.page_bytes)
