"""The MIG instances that an NVIDIA GPU is divided into, each with series of its own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.gpu import families
from modelhost_exporter.gpu.contract import Value
from modelhost_exporter.gpu.nvidia import gpm
from modelhost_exporter.gpu.nvidia.memory import device_memory
from modelhost_exporter.gpu.nvidia.query import DeviceQuery, NvmlCall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from modelhost_exporter.gpu.nvidia.nvml import Nvml
    from modelhost_exporter.gpu.processes import ProcessMemory, ProcessNames

_ENABLED = 1
_MODE = NvmlCall("nvmlDeviceGetMigMode")
_PROFILE = re.compile(r"\d{1,3}g\.\d{1,5}gb\S*")  # of "NVIDIA H100 80GB HBM3 MIG 1c.3g.40gb"
_GPM_RATIOS = {
    gpm.SM_UTIL: families.MIG_SM_ACTIVE,
    gpm.SM_OCCUPANCY: families.MIG_SM_OCCUPANCY,
    gpm.ANY_TENSOR: families.MIG_TENSOR_ACTIVE,
    gpm.DRAM_BANDWIDTH: families.MIG_DRAM_ACTIVE,
}


class _Instance(NamedTuple):
    """One GPU instance: its id, its profile, and its MIG devices (one for each compute instance) by UUID."""

    number: int
    profile: str
    devices: tuple[tuple[str, DeviceQuery], ...]

    @property
    def labels(self) -> tuple[str, str]:
        return str(self.number), self.profile


class MigInstances:
    """The MIG instances of one GPU, which may be created and destroyed at any time."""

    def __init__(self, query: DeviceQuery, nvml: Nvml, clock: Callable[[], float]) -> None:
        self._query = query
        self._nvml = nvml
        self._clock = clock
        self._enabled: bool | None = None
        self.switched = False
        """Whether MIG was switched on or off between the last two readings."""
        self._max_devices: int | None = None
        self._queries: dict[int, DeviceQuery] = {}
        self._gpm: dict[int, gpm.Gpm] = {}
        self._gpm_supported: bool | None = None

    @property
    def lost(self) -> int:
        """Number of fields of the instances that succeeded before and failed in this reading."""
        return sum(query.lost for query in self._queries.values()) + sum(monitor.lost for monitor in self._gpm.values())

    def read(self, processes: Sequence[ProcessMemory] | None, names: ProcessNames) -> Iterator[Value]:
        """Yield every instance's values; nothing on a GPU without MIG, or with MIG switched off."""
        instances = self._instances()
        for number in self._gpm.keys() - instances.keys():
            self._gpm.pop(number).free()
        if instances and not self._gpm_supported:
            self._gpm_supported = gpm.is_supported(self._query)
        for instance in instances.values():
            yield from _identity_and_memory(instance)
            yield from self._activity(instance)
            own = [process for process in processes or () if process.instance == instance.number]
            for name, memory in names.memory(own).items():
                yield Value(families.MIG_PROCESS_MEMORY, (*instance.labels, name), memory)

    def _instances(self) -> dict[int, _Instance]:
        mode = self._query.call(_MODE.function)
        before, self.switched = self._enabled, False
        if mode is not None or self._query.is_unsupported(_MODE):  # else the query failed temporarily
            self._enabled = mode is not None and mode[0] == _ENABLED
            self.switched = before is not None and self._enabled != before
        if not self._enabled:
            self._queries.clear()
            return {}
        found: dict[int, _Instance] = {}
        for query in self._devices():
            number = query.call("nvmlDeviceGetGpuInstanceId")
            if number is not None:
                uuid = query.call("nvmlDeviceGetUUID") or ""
                others = found[number].devices if number in found else ()
                found[number] = _Instance(number, _profile(query), (*others, (uuid, query)))
        return found

    def _devices(self) -> Iterator[DeviceQuery]:
        """Yield a query for each MIG device; indices run up to the maximum number of devices, with gaps."""
        if self._max_devices is None:
            self._max_devices = self._query.call("nvmlDeviceGetMaxMigDeviceCount")
        for index in range(self._max_devices or 0):
            handle = self._query.call_always("nvmlDeviceGetMigDeviceHandleByIndex", index)
            if handle is None:
                self._queries.pop(index, None)
                continue
            query = self._queries.setdefault(index, DeviceQuery(self._query.lib, handle, self._clock))
            query.handle = handle
            query.begin_reading()
            query.review_unsupported()
            yield query

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
    for uuid in dict.fromkeys(uuid for uuid, _ in instance.devices):  # '' where the driver does not report it
        yield Value(families.MIG_INFO, (*instance.labels, uuid), 1)
    info = device_memory(instance.devices[0][1])
    if info is not None:
        yield Value(families.MIG_MEMORY_TOTAL, instance.labels, info.total)
        yield Value(families.MIG_MEMORY_USED, instance.labels, info.used)
        yield Value(families.MIG_MEMORY_FREE, instance.labels, info.free)
        yield Value(families.MIG_MEMORY_RESERVED, instance.labels, info.reserved)


def _profile(query: DeviceQuery) -> str:
    found = _PROFILE.search(query.call("nvmlDeviceGetName") or "")
    return found[0] if found else ""
