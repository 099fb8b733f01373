"""Queries of NVIDIA GPUs that fit no table of fields: several values in one call, or one for each fan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.gpu import families
from modelhost_exporter.gpu.contract import Value
from modelhost_exporter.gpu.nvidia import fields as nvidia_fields
from modelhost_exporter.gpu.nvidia.query import NvmlCall, is_blank
from modelhost_exporter.gpu.processes import ProcessMemory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelhost_exporter.gpu.nvidia.query import DeviceQuery
    from modelhost_exporter.gpu.nvidia.session import DeviceSession

_PROCESS_LISTS = (
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetGraphicsRunningProcesses_v3",
    "nvmlDeviceGetMPSComputeRunningProcesses_v3",
)
_NO_INSTANCE = 0xFFFFFFFF


def utilization(query: DeviceQuery) -> Iterator[Value]:
    """Yield both ratios that one call returns."""
    rates = query.call("nvmlDeviceGetUtilizationRates")
    if rates is not None:
        for family, percent in ((families.UTILIZATION, rates.gpu), (families.MEMORY_UTILIZATION, rates.memory)):
            yield Value(family, (), percent / 100 if percent <= 100 else None)  # noqa: PLR2004 - percent


def fans(query: DeviceQuery) -> Iterator[Value]:
    """Yield each fan's speed, which may be above 1 (nvmlDeviceGetFanSpeed_v2); passive cards have none."""
    for fan in range(min(query.call("nvmlDeviceGetNumFans") or 0, 16)):
        percent = query.call("nvmlDeviceGetFanSpeed_v2", fan)
        if percent is not None and percent <= 200:  # noqa: PLR2004 - percent
            yield Value(families.FAN, (str(fan),), percent / 100)


def throttled(session: DeviceSession) -> Iterator[Value]:
    """Yield 0 or 1 for each reason that the GPU supports."""
    if session.throttle is None:
        return
    function, supported = session.throttle
    current = session.query.call(function)
    if current is not None and not is_blank(current):
        for bit, reason in nvidia_fields.REASONS.items():
            if supported & bit:
                yield Value(families.THROTTLED, (reason,), float(bool(current & bit)))


def usages(query: DeviceQuery) -> list[ProcessMemory] | None:
    """Return the memory of each process; None when the driver does not report it. A process may be in several lists.

    When one list fails temporarily the result is None: the others would look complete.
    """
    lists = [query.call(function) for function in _PROCESS_LISTS]
    there = [not query.lacks(NvmlCall(function)) for function in _PROCESS_LISTS]
    if not any(there) or any(processes is None and has for processes, has in zip(lists, there, strict=True)):
        return None
    found: dict[tuple[int, int, int], int | None] = {}
    for info in (info for processes in lists for info in processes or ()):
        key = (info.pid, info.gpuInstanceId, info.computeInstanceId)
        sizes = [size for size in (found.get(key), info.usedGpuMemory) if size is not None]
        found[key] = max(sizes, default=None)
    return [
        ProcessMemory(pid, memory, None if instance == _NO_INSTANCE else instance)
        for (pid, instance, _), memory in found.items()
    ]
