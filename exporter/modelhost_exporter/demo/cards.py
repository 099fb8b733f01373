"""The simulated driver's functions for one GPU; what the real GPU does not support is not supported here either."""

from __future__ import annotations

import ctypes
import struct
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from modelhost_exporter.demo.gpus import HW_THERMAL, LINKS, SW_POWER_CAP
from modelhost_exporter.demo.specs import GIB
from modelhost_exporter.gpu.nvidia.errors import INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from modelhost_exporter.demo.gpus import SimulatedCard

XID_EVENT = 8
MIG_HANDLE = 1000
_UNSIGNED, _LONG_LONG = 1, 3
FIELD = struct.Struct("=IIqqII8s")
# GPU instance → profile, memory, and whether the model server of the GPU is in it
_INSTANCES = ((1, "3g.40gb", int(39.5 * GIB), True), (2, "2g.20gb", int(19.5 * GIB), False))
_NO_INSTANCE = 0xFFFFFFFF
_FANS_START_CELSIUS = 48


class DriverError(Exception):
    """An error of the driver, with its code."""

    def __init__(self, value: int) -> None:
        super().__init__(f"NVML error {value}")
        self.value = value


def handle_of(card: SimulatedCard) -> ctypes.c_void_p:
    """Return the handle of a GPU."""
    return ctypes.c_void_p(card.index + 1)


def instance_of(handle: ctypes.c_void_p) -> int | None:
    """Return the index of a handle's MIG device in its GPU; None for a whole GPU."""
    number = (handle.value or 0) - 1
    return number % MIG_HANDLE if number >= MIG_HANDLE else None


def _refuse(code: int = NOT_SUPPORTED) -> Any:
    raise DriverError(code)


def _memory(card: SimulatedCard, _version: int = 1, instance: int | None = None) -> Any:
    total, used, reserved = card.spec.memory_bytes, card.used_bytes, card.reserved_bytes
    if instance is not None:
        _, _, total, has_server = _INSTANCES[instance]
        used, reserved = card.used_bytes if has_server else 0, reserved // 4
    return SimpleNamespace(total=total, used=used, free=total - used - reserved, reserved=reserved)


def _name(card: SimulatedCard, instance: int | None = None) -> str:
    name = card.spec.name
    return name if instance is None else f"{name} MIG {_INSTANCES[instance][1]}"


def _uuid(card: SimulatedCard, instance: int | None = None) -> str:
    return card.uuid if instance is None else card.uuid.replace("GPU", "MIG").replace("de30", f"de3{instance + 1}")


def _processes(card: SimulatedCard) -> Any:
    instance = _INSTANCES[0][0] if card.mig else _NO_INSTANCE
    return [
        SimpleNamespace(pid=pid, usedGpuMemory=held, gpuInstanceId=instance, computeInstanceId=_NO_INSTANCE)
        for pid, held in card.processes
    ]


def _utilization(card: SimulatedCard) -> Any:
    if card.mig:
        return _refuse()
    return SimpleNamespace(gpu=round(100 * card.busy), memory=round(60 * card.dram))


def _samples(card: SimulatedCard, kind: int, since: int) -> Any:
    if kind != 1 or card.mig:
        return _refuse()
    found = [
        SimpleNamespace(timeStamp=when, sampleValue=struct.pack("=Q", percent))
        for when, percent in card.samples.copy()
        if when > since
    ]
    return (_UNSIGNED, found) if found else _refuse(NOT_FOUND)


def _threshold(card: SimulatedCard, kind: int) -> int:
    return (92, int(card.spec.slowdown_celsius), 95, 85)[kind] if kind < 4 else _refuse(INVALID_ARGUMENT)  # noqa: PLR2004 - the kinds above


def _clock(card: SimulatedCard, domain: int) -> int:
    spec = card.spec
    return (card.sm_mhz, card.sm_mhz, spec.memory_mhz, card.sm_mhz * spec.video_mhz // spec.boost_mhz)[domain]


def _max_clock(card: SimulatedCard, domain: int) -> int:
    return (card.spec.boost_mhz, card.spec.boost_mhz, card.spec.memory_mhz, card.spec.video_mhz)[domain]


def _fan_count(card: SimulatedCard) -> int:
    return 0 if card.spec.is_for_data_centers else 2


def _fan_percent(card: SimulatedCard, _fan: int) -> int:
    return 0 if card.celsius < _FANS_START_CELSIUS else round(30 + 1.6 * (card.celsius - _FANS_START_CELSIUS))


def _mig_mode(card: SimulatedCard) -> tuple[int, int]:
    return (int(card.mig), int(card.mig)) if card.spec.is_for_data_centers else _refuse()


def _mig_device(card: SimulatedCard, index: int) -> ctypes.c_void_p:
    if not card.mig or index >= len(_INSTANCES):
        return _refuse(NOT_FOUND)  # type: ignore[no-any-return]
    return ctypes.c_void_p((card.index + 1) * MIG_HANDLE + index + 1)


def _instance_id(_card: SimulatedCard, instance: int | None = None) -> int:
    return _INSTANCES[instance][0] if instance is not None else _refuse()


# field number → its value for a GPU (and a link)
_FIELDS: dict[int, Callable[[SimulatedCard, int], float]] = {
    1: lambda _card, _link: 1,
    3: lambda card, _link: card.corrected,
    4: lambda card, _link: card.uncorrected,
    5: lambda card, _link: card.corrected,
    6: lambda card, _link: card.uncorrected_ever,
    74: lambda card, _link: card.throttled[SW_POWER_CAP] * 1e9,
    76: lambda _card, _link: 0,
    77: lambda _card, _link: 0,
    79: lambda _card, _link: 0,
    82: lambda card, _link: card.celsius + 7,
    91: lambda _card, _link: LINKS,
    94: lambda card, _link: card.replays,
    138: lambda card, link: card.nvlink_bytes / LINKS / 1024 + link,
    139: lambda card, link: max(0.0, card.nvlink_bytes / LINKS / 1024 - link),
    142: lambda _card, _link: 0,
    143: lambda card, _link: card.remapped,
    144: lambda card, _link: card.remap_pending,
    145: lambda card, _link: card.remap_failed,
    165: lambda _card, _link: 1,
    230: lambda card, _link: card.remap_pending,
    269: lambda _card, _link: 0,
    270: lambda card, _link: card.throttled[HW_THERMAL] * 1e9,
    271: lambda _card, _link: 0,
}


# those that GPUs for desktops have, too: time of throttling, and what PCIe had to repeat
_OF_ALL_CARDS = frozenset({74, 76, 77, 79, 94, 269, 270, 271})


def _field_values(card: SimulatedCard, fields: Sequence[tuple[int, int]]) -> bytes:
    """Return an array of nvmlFieldValue_t."""
    values = []
    for number, scope in fields:
        is_supported = card.spec.is_for_data_centers or number in _OF_ALL_CARDS
        field = _FIELDS.get(number) if is_supported else None
        code, value = (NOT_SUPPORTED, 0) if field is None else (0, int(field(card, scope)))
        values.append(FIELD.pack(number, scope, 0, 0, _LONG_LONG, code, struct.pack("=Q", value)))
    return b"".join(values)


def _take_sample(card: SimulatedCard, sample: Any, share: float = 1.0) -> None:
    sample.activity, sample.share = card.activity, share


def _take_mig_sample(card: SimulatedCard, number: int, sample: Any) -> None:
    _take_sample(card, sample, float(number == _INSTANCES[0][0]))


BY_HANDLE: frozenset[Callable[..., Any]] = frozenset({_memory, _name, _uuid, _instance_id})
OF_CARD: dict[str, Callable[..., Any]] = {
    "nvmlDeviceGetIndex": lambda card: card.index,
    "nvmlDeviceGetUUID": _uuid,
    "nvmlDeviceGetName": _name,
    "nvmlDeviceGetPciInfo": lambda card: SimpleNamespace(busId=f"00000000:{0x1B + 0x10 * card.index:02X}:00.0"),
    "nvmlDeviceGetVbiosVersion": lambda card: card.spec.vbios,
    "nvmlDeviceGetCudaComputeCapability": lambda card: card.spec.capability,
    "nvmlDeviceGetMemoryInfo": _memory,
    "nvmlDeviceGetUtilizationRates": _utilization,
    "nvmlDeviceGetEncoderUtilization": lambda card: (0, 167_000) if not card.mig else _refuse(),
    "nvmlDeviceGetDecoderUtilization": lambda card: (0, 167_000) if not card.mig else _refuse(),
    "nvmlDeviceGetPowerUsage": lambda card: round(card.power * 1000),
    "nvmlDeviceGetEnforcedPowerLimit": lambda card: round(card.power_limit * 1000),
    "nvmlDeviceGetTotalEnergyConsumption": lambda card: round(card.joules * 1000),
    "nvmlDeviceGetTemperature": lambda card, _sensor: round(card.celsius),
    "nvmlDeviceGetMarginTemperature": lambda card: round(card.spec.slowdown_celsius - card.celsius),
    "nvmlDeviceGetTemperatureThreshold": _threshold,
    "nvmlDeviceGetClockInfo": _clock,
    "nvmlDeviceGetMaxClockInfo": _max_clock,
    "nvmlDeviceGetPerformanceState": lambda card: 0 if card.sm_mhz > card.spec.idle_mhz else 8,
    "nvmlDeviceGetCurrPcieLinkGeneration": lambda card: card.spec.pcie_generation,
    "nvmlDeviceGetMaxPcieLinkGeneration": lambda card: card.spec.pcie_generation,
    "nvmlDeviceGetCurrPcieLinkWidth": lambda card: card.width,
    "nvmlDeviceGetMaxPcieLinkWidth": lambda _card: 16,
    "nvmlDeviceGetFieldValues": _field_values,
    "nvmlDeviceGetSupportedClocksEventReasons": lambda _card: 0x1FF,
    "nvmlDeviceGetCurrentClocksEventReasons": lambda card: card.reasons,
    "nvmlDeviceGetSamples": _samples,
    "nvmlDeviceGetComputeRunningProcesses_v3": _processes,
    "nvmlDeviceGetMigMode": _mig_mode,
    "nvmlDeviceGetNumFans": _fan_count,
    "nvmlDeviceGetFanSpeed_v2": _fan_percent,
    "nvmlDeviceGetMaxMigDeviceCount": lambda card: 7 if card.mig else 0,
    "nvmlDeviceGetMigDeviceHandleByIndex": _mig_device,
    "nvmlDeviceGetGpuInstanceId": _instance_id,
    "nvmlDeviceGetSupportedEventTypes": lambda _card: XID_EVENT,
    "nvmlDeviceRegisterEvents": lambda _card, _types, _events: None,
    "nvmlGpmQueryDeviceSupport": lambda card: SimpleNamespace(isSupportedDevice=int(card.spec.is_for_data_centers)),
    "nvmlGpmSampleGet": _take_sample,
    "nvmlGpmMigSampleGet": _take_mig_sample,
}
