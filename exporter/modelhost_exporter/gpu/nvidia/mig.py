"""MIG: the parts that a GPU was divided into, as rows of their own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.gpu import families
from modelhost_exporter.gpu.contract import Value
from modelhost_exporter.gpu.nvidia import gpm
from modelhost_exporter.gpu.nvidia.query import DeviceQuery, NvmlCall, is_blank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from modelhost_exporter.gpu.nvidia.nvml import Nvml
    from modelhost_exporter.gpu.processes import ProcessMemory, ProcessNames

_ENABLED = 1
_MODE = NvmlCall("nvmlDeviceGetMigMode")
_MEMORY_INFO = "nvmlDeviceGetMemoryInfo"
_PROFILE = re.compile(r"\d{1,3}g\.\d{1,5}gb\S*")  # of "NVIDIA H100 80GB HBM3 MIG 1c.3g.40gb"
_GPM_RATIOS = {
    gpm.SM_UTIL: families.MIG_SM_ACTIVE,
    gpm.SM_OCCUPANCY: families.MIG_SM_OCCUPANCY,
    gpm.ANY_TENSOR: families.MIG_TENSOR_ACTIVE,
    gpm.DRAM_BANDWIDTH: families.MIG_DRAM_ACTIVE,
}


class MigMemory(NamedTuple):
    """A device's memory in bytes; None: not known."""

    total: int | None
    used: int | None
    free: int | None
    reserved: int | None


class _Instance(NamedTuple):
    """One GPU instance: its id, its profile, and its MIG devices (one for each compute instance) by UUID."""

    number: int
    profile: str
    devices: tuple[tuple[str, DeviceQuery], ...]

    @property
    def labels(self) -> tuple[str, str]:
        return str(self.number), self.profile


class MigInstances:
    """The MIG instances of one GPU, which may be made and destroyed at any time."""

    def __init__(self, query: DeviceQuery, nvml: Nvml, clock: Callable[[], float]) -> None:
        self._query = query
        self._nvml = nvml
        self._clock = clock
        self._enabled: bool | None = None
        self.switched = False
        """Whether MIG was switched on or off between the last two readings."""
        self._most: int | None = None
        self._parts: dict[int, DeviceQuery] = {}
        self._gpm: dict[int, gpm.Gpm] = {}
        self._gpm_supported: bool | None = None

    @property
    def lost(self) -> int:
        """How many fields of the instances answered before and failed in this reading."""
        return sum(part.lost for part in self._parts.values()) + sum(monitor.lost for monitor in self._gpm.values())

    def read(self, usages: Sequence[ProcessMemory] | None, names: ProcessNames) -> Iterator[Value]:
        """Yield every instance's values; nothing on a GPU that has no MIG, or has it switched off."""
        instances = self._instances()
        for number in self._gpm.keys() - instances.keys():
            self._gpm.pop(number).free()
        if instances and not self._gpm_supported:
            self._gpm_supported = gpm.is_supported(self._query)
        for instance in instances.values():
            yield from _identity_and_memory(instance)
            yield from self._activity(instance)
            own = [usage for usage in usages or () if usage.instance == instance.number]
            for name, memory in names.memory(own).items():
                yield Value(families.MIG_PROCESS_MEMORY, (*instance.labels, name), memory)

    def _instances(self) -> dict[int, _Instance]:
        mode = self._query.call(_MODE.function)
        last, self.switched = self._enabled, False
        if mode is not None or self._query.lacks(_MODE):  # else it is as it was
            self._enabled = mode is not None and mode[0] == _ENABLED
            self.switched = last is not None and self._enabled != last
        if not self._enabled:
            self._parts.clear()
            return {}
        found: dict[int, _Instance] = {}
        for query in self._devices():
            number = query.call("nvmlDeviceGetGpuInstanceId")
            if number is not None:
                uuid = query.call("nvmlDeviceGetUUID") or ""
                before = found[number].devices if number in found else ()
                found[number] = _Instance(number, _profile(query), (*before, (uuid, query)))
        return found

    def _devices(self) -> Iterator[DeviceQuery]:
        """Yield the MIG devices: indices run up to the most there can be, with gaps."""
        if self._most is None:
            self._most = self._query.call("nvmlDeviceGetMaxMigDeviceCount")
        for index in range(self._most or 0):
            handle = self._query.once("nvmlDeviceGetMigDeviceHandleByIndex", index)
            if handle is None:
                self._parts.pop(index, None)
                continue
            part = self._parts.setdefault(index, DeviceQuery(self._query.lib, handle, self._clock))
            part.handle = handle
            part.begin_reading()
            if part.is_review_due():
                part.forget_refusals()
            yield part

    def _activity(self, instance: _Instance) -> Iterator[Value]:
        if not self._gpm_supported:
            return
        monitor = self._gpm.setdefault(instance.number, self._new_monitor(instance.number))
        for family, ratio in gpm.ratios(monitor.read(), _GPM_RATIOS):
            yield Value(family, instance.labels, ratio)

    def _new_monitor(self, number: int) -> gpm.Gpm:
        lib, handle = self._query.lib, self._query.handle
        return gpm.Gpm(self._nvml, lambda sample: lib.nvmlGpmMigSampleGet(handle, number, sample), self._clock)


def _identity_and_memory(instance: _Instance) -> Iterable[Value]:
    """Yield identity and memory; every compute instance reports the memory of its whole GPU instance."""
    for uuid in dict.fromkeys(uuid for uuid, _ in instance.devices):  # '' where the driver does not say
        yield Value(families.MIG_INFO, (*instance.labels, uuid), 1)
    info = memory_info(instance.devices[0][1])
    if info is not None:
        yield Value(families.MIG_MEMORY_TOTAL, instance.labels, info.total)
        yield Value(families.MIG_MEMORY_USED, instance.labels, info.used)
        yield Value(families.MIG_MEMORY_FREE, instance.labels, info.free)
        yield Value(families.MIG_MEMORY_RESERVED, instance.labels, info.reserved)


def memory_info(query: DeviceQuery) -> MigMemory | None:
    """Return a device's memory; reserved memory is separate where the driver supports it (version 2)."""
    version_2 = NvmlCall(_MEMORY_INFO, (query.lib.nvmlMemory_v2,))
    info = query.call(_MEMORY_INFO, *version_2.arguments)
    if info is None and query.lacks(version_2):
        info = query.call(_MEMORY_INFO)
    if info is None:
        return None
    sizes = (info.total, info.used, info.free, getattr(info, "reserved", None))
    return MigMemory(*(None if size is None or is_blank(size) else size for size in sizes))


def _profile(query: DeviceQuery) -> str:
    found = _PROFILE.search(query.call("nvmlDeviceGetName") or "")
    return found[0] if found else ""
