"""The memory of an NVIDIA GPU or MIG instance, in all and by process."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.gpu import families
from modelhost_exporter.gpu.contract import Value
from modelhost_exporter.gpu.nvidia.errors import NOT_SUPPORTED
from modelhost_exporter.gpu.nvidia.query import NvmlCall, is_blank
from modelhost_exporter.gpu.processes import ProcessMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from modelhost_exporter.gpu.nvidia.query import DeviceQuery

_MEMORY = NvmlCall("nvmlDeviceGetMemoryInfo")
_PROCESS_LISTS = (
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetGraphicsRunningProcesses_v3",
    "nvmlDeviceGetMPSComputeRunningProcesses_v3",
)
_NO_INSTANCE = 0xFFFFFFFF


class DeviceMemory(NamedTuple):
    """A device's memory in bytes; None where it is unknown."""

    total: int | None
    used: int | None
    free: int | None
    reserved: int | None


def device_memory(query: DeviceQuery) -> DeviceMemory | None:
    """Return a device's memory; the reserved part is separate where the driver supports it (version 2)."""
    version_2 = NvmlCall(_MEMORY.function, (query.lib.nvmlMemory_v2,))
    info = query.call(version_2.function, *version_2.arguments)
    if info is None and query.is_unsupported(version_2):
        info = query.call(_MEMORY.function)
    if info is None:
        return None
    sizes = (info.total, info.used, info.free, getattr(info, "reserved", None))
    return DeviceMemory(*(None if size is None or is_blank(size) else size for size in sizes))


def is_unified(query: DeviceQuery) -> bool:
    """Return whether the GPU shares the host's memory, as far as has been queried: it then reports none of its own."""
    return query.unsupported_code(_MEMORY) == NOT_SUPPORTED


def process_memory(query: DeviceQuery) -> list[ProcessMemory] | None:
    """Return the memory of each process; None when the driver does not report it. A process may be in several lists.

    When one list fails temporarily the result is None: the others would look complete.
    """
    lists = [query.call(function) for function in _PROCESS_LISTS]
    supported = [not query.is_unsupported(NvmlCall(function)) for function in _PROCESS_LISTS]
    if not any(supported) or any(listed is None and has for listed, has in zip(lists, supported, strict=True)):
        return None
    found: dict[tuple[int, int, int], int | None] = {}
    for info in (info for listed in lists for info in listed or ()):
        key = (info.pid, info.gpuInstanceId, info.computeInstanceId)
        sizes = [size for size in (found.get(key), info.usedGpuMemory) if size is not None]
        found[key] = max(sizes, default=None)
    return [
        ProcessMemory(pid, memory, None if instance == _NO_INSTANCE else instance)
        for (pid, instance, _), memory in found.items()
    ]


def memory_values(
    query: DeviceQuery, processes: list[ProcessMemory] | None, host_memory: Callable[[], int]
) -> Iterator[Value]:
    """Yield a GPU's memory; where it is unified, the host's, and the part that processes on the GPU hold."""
    info = device_memory(query)
    if info is not None and info.total != 0:
        yield Value(families.MEMORY_TOTAL, (), info.total)
        yield Value(families.MEMORY_USED, (), info.used)
        yield Value(families.MEMORY_FREE, (), info.free)
        yield Value(families.MEMORY_RESERVED, (), info.reserved)
    elif is_unified(query):
        yield Value(families.UNIFIED_MEMORY, (), 1)
        yield Value(families.MEMORY_TOTAL, (), host_memory())
        yield Value(families.MEMORY_USED, (), _held_by_all(processes))


def _held_by_all(processes: list[ProcessMemory] | None) -> int | None:
    """Return the sum of all processes' memory; None where a part of it is unknown."""
    if processes is None:
        return None
    sizes = [process.memory for process in processes]
    return None if None in sizes else sum(size or 0 for size in sizes)
