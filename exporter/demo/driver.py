"""A stand-in for nvidia-ml-py that tells of simulated GPUs: what an H100 has no answer for, it has none for either."""

from __future__ import annotations

import ctypes
import struct
import threading
from collections import deque
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from exporter.demo.catalogue import GIB, GPU_MEMORY_BYTES
from exporter.demo.gpus import HW_THERMAL, LINKS, SLOWDOWN_CELSIUS, SW_POWER_CAP, Activity
from exporter.gpu import gpm
from exporter.gpu.nvml import GPU_IS_LOST, INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED, TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.demo.gpus import Card

DRIVER_VERSION = "580.95.05"
_XID_EVENT = 8
_UNSIGNED, _LONG_LONG = 1, 3
_FIELD = struct.Struct("=IIqqII8s")
_MIG_HANDLE = 1000
# GPU instance → profile, memory, and whether the model server of the GPU is in it
_INSTANCES = ((1, "3g.40gb", int(39.5 * GIB), True), (2, "2g.20gb", int(19.5 * GIB), False))
_NO_INSTANCE = 0xFFFFFFFF
_LONGEST_DELIVERY_SECONDS = 1.0


class DriverError(Exception):
    """An error of the driver, with its code."""

    def __init__(self, value: int) -> None:
        super().__init__(f"NVML error {value}")
        self.value = value


class Driver:
    """The library, as far as it is called; functions about one GPU are found in the tables below."""

    NVMLError = DriverError
    NVML_ERROR_LIBRARY_NOT_FOUND = 12
    NVML_GPM_METRICS_GET_VERSION = 1
    nvmlMemory_v2 = 2  # noqa: N815 - the library's name

    def __init__(self, cards: Sequence[Card]) -> None:
        self._cards = cards
        self._events = _Events()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return a function of the library; AttributeError for one that it does not have."""
        if name in _OF_LIBRARY:
            return partial(_OF_LIBRARY[name], self)
        if name in _OF_CARD:
            return partial(self._about, _OF_CARD[name])
        raise AttributeError(name)

    def report(self, card: Card, xid: int) -> None:
        """Report an XID to whoever waits for one; returns once it has been taken, or after a second."""
        self._events.push(_handle(card), xid)

    def wait(self, milliseconds: int) -> Any:
        """Wait for an event."""
        event = self._events.pop(milliseconds / 1000)
        if event is None:
            raise DriverError(TIMEOUT)
        handle, xid = event
        return SimpleNamespace(eventType=_XID_EVENT, device=handle, eventData=xid)

    @property
    def count(self) -> int:
        """How many GPUs the driver counts, with those that fell off the bus."""
        return len(self._cards)

    def handle(self, index: int) -> ctypes.c_void_p:
        """Return the handle of a GPU that is there."""
        card = self._cards[index]
        if not card.on_bus:
            raise DriverError(GPU_IS_LOST)
        return _handle(card)

    def card(self, handle: ctypes.c_void_p) -> Card:
        """Return the GPU of a handle, or the one that a MIG instance is a part of."""
        number = (handle.value or 0) - 1
        card = self._cards[number // _MIG_HANDLE - 1 if number >= _MIG_HANDLE else number]
        if not card.on_bus:
            raise DriverError(GPU_IS_LOST)
        return card

    def _about(self, answer: Callable[..., Any], handle: ctypes.c_void_p, *arguments: Any) -> Any:
        card = self.card(handle)
        return answer(card, *arguments, *(() if answer not in _BY_HANDLE else (_instance(handle),)))


class _Events:
    """XIDs on their way to the one thread that waits for them."""

    def __init__(self) -> None:
        self._queue: deque[tuple[ctypes.c_void_p, int]] = deque()
        self._changed = threading.Condition()
        self._attended = self._waiting = False

    def push(self, handle: ctypes.c_void_p, xid: int) -> None:
        with self._changed:
            self._queue.append((handle, xid))
            self._changed.notify_all()
            if self._attended:
                self._changed.wait_for(lambda: not self._queue and self._waiting, _LONGEST_DELIVERY_SECONDS)

    def pop(self, seconds: float) -> tuple[ctypes.c_void_p, int] | None:
        with self._changed:
            self._attended = self._waiting = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: bool(self._queue), seconds)
            self._waiting = not self._queue
            return self._queue.popleft() if self._queue else None


def _handle(card: Card) -> ctypes.c_void_p:
    return ctypes.c_void_p(card.index + 1)


def _instance(handle: ctypes.c_void_p) -> int | None:
    """Return which MIG device of its GPU a handle is; None for a whole GPU."""
    number = (handle.value or 0) - 1
    return number % _MIG_HANDLE if number >= _MIG_HANDLE else None


def _refuse(code: int = NOT_SUPPORTED) -> Any:
    raise DriverError(code)


def _memory(card: Card, _version: int = 1, instance: int | None = None) -> Any:
    total, used, reserved = GPU_MEMORY_BYTES, card.used_bytes, card.reserved_bytes
    if instance is not None:
        _, _, total, has_server = _INSTANCES[instance]
        used, reserved = card.used_bytes if has_server else 0, reserved // 4
    return SimpleNamespace(total=total, used=used, free=total - used - reserved, reserved=reserved)


def _name(_card: Card, instance: int | None = None) -> str:
    name = "NVIDIA H100 80GB HBM3"
    return name if instance is None else f"{name} MIG {_INSTANCES[instance][1]}"


def _uuid(card: Card, instance: int | None = None) -> str:
    return card.uuid if instance is None else card.uuid.replace("GPU", "MIG").replace("de30", f"de3{instance + 1}")


def _processes(card: Card) -> Any:
    instance = _INSTANCES[0][0] if card.mig else _NO_INSTANCE
    return [
        SimpleNamespace(pid=pid, usedGpuMemory=held, gpuInstanceId=instance, computeInstanceId=_NO_INSTANCE)
        for pid, held in card.processes
    ]


def _utilization(card: Card) -> Any:
    if card.mig:
        return _refuse()
    return SimpleNamespace(gpu=round(100 * card.busy), memory=round(60 * card.dram))


def _samples(card: Card, kind: int, since: int) -> Any:
    if kind != 1 or card.mig:
        return _refuse()
    found = [
        SimpleNamespace(timeStamp=when, sampleValue=struct.pack("=Q", percent))
        for when, percent in card.samples.copy()
        if when > since
    ]
    return (_UNSIGNED, found) if found else _refuse(NOT_FOUND)


def _threshold(_card: Card, kind: int) -> int:
    return (92, int(SLOWDOWN_CELSIUS), 95, 85)[kind] if kind < 4 else _refuse(INVALID_ARGUMENT)  # noqa: PLR2004 - the kinds above


def _clock(card: Card, domain: int) -> int:
    return (card.sm_mhz, card.sm_mhz, 2619, card.sm_mhz * 4 // 5)[domain]


def _mig_device(card: Card, index: int) -> ctypes.c_void_p:
    if not card.mig or index >= len(_INSTANCES):
        return _refuse(NOT_FOUND)  # type: ignore[no-any-return]
    return ctypes.c_void_p((card.index + 1) * _MIG_HANDLE + index + 1)


def _instance_id(_card: Card, instance: int | None = None) -> int:
    return _INSTANCES[instance][0] if instance is not None else _refuse()


# fields by number, each what it says of a GPU (and of a link)
_FIELDS: dict[int, Callable[[Card, int], float]] = {
    1: lambda _card, _link: 1,
    3: lambda card, _link: card.corrected,
    4: lambda card, _link: card.uncorrected,
    5: lambda card, _link: card.corrected + 4,
    6: lambda card, _link: card.uncorrected_ever,
    74: lambda card, _link: card.throttled[SW_POWER_CAP] * 1e9,
    76: lambda _card, _link: 0,
    77: lambda _card, _link: 0,
    79: lambda _card, _link: 0,
    82: lambda card, _link: card.celsius + 7,
    91: lambda _card, _link: LINKS,
    94: lambda card, _link: card.replays,
    138: lambda card, link: card.nvlink_bytes / LINKS / 1024 + link,
    139: lambda card, link: card.nvlink_bytes / LINKS / 1024 - link,
    142: lambda _card, _link: 0,
    143: lambda card, _link: card.remapped,
    144: lambda card, _link: card.remap_pending,
    145: lambda card, _link: card.remap_failed,
    230: lambda card, _link: card.remap_pending,
    269: lambda _card, _link: 0,
    270: lambda card, _link: card.throttled[HW_THERMAL] * 1e9,
    271: lambda _card, _link: 0,
}


def _field_values(card: Card, fields: Sequence[tuple[int, int]]) -> bytes:
    """Return nvmlFieldValue_t after nvmlFieldValue_t."""
    written = []
    for number, scope in fields:
        answer = _FIELDS.get(number)
        code, value = (NOT_SUPPORTED, 0) if answer is None else (0, int(answer(card, scope)))
        written.append(_FIELD.pack(number, scope, 0, 0, _LONG_LONG, code, struct.pack("=Q", value)))
    return b"".join(written)


def _take_sample(card: Card, sample: Any, share: float = 1.0) -> None:
    sample.activity, sample.share = card.activity, share


def _take_mig_sample(card: Card, number: int, sample: Any) -> None:
    _take_sample(card, sample, float(number == _INSTANCES[0][0]))


def _metrics(_driver: Driver, request: Any) -> None:
    """Fill a request with the means between its two samples."""
    older: Activity = request.sample1.activity
    newer: Activity = request.sample2.activity
    seconds, share = max(newer.at - older.at, 1e-9), request.sample2.share
    places = {
        gpm.SM_UTIL: 1,
        gpm.SM_OCCUPANCY: 2,
        gpm.ANY_TENSOR: 3,
        gpm.DRAM_BANDWIDTH: 4,
        gpm.PCIE_TX: 5,
        gpm.PCIE_RX: 6,
    }
    for answer in request.metrics[: request.numMetrics]:
        place = places[answer.metricId]
        mean = (newer[place] - older[place]) / seconds * share
        answer.nvmlReturn, answer.value = 0, mean * (100 if place <= 4 else 1)  # noqa: PLR2004 - the ratios


def _new_request(_driver: Driver) -> Any:
    metrics = [SimpleNamespace(metricId=0, nvmlReturn=0, value=0.0) for _ in range(16)]
    return SimpleNamespace(version=0, numMetrics=0, metrics=metrics, sample1=None, sample2=None)


_OF_LIBRARY: dict[str, Callable[..., Any]] = {
    "nvmlInit": lambda _driver: None,
    "nvmlShutdown": lambda _driver: None,
    "nvmlSystemGetDriverVersion": lambda _driver: DRIVER_VERSION,
    "nvmlDeviceGetCount": lambda driver: driver.count,
    "nvmlDeviceGetHandleByIndex": lambda driver, index: driver.handle(index),
    "nvmlEventSetCreate": lambda _driver: object(),
    "nvmlEventSetWait_v2": lambda driver, _events, milliseconds: driver.wait(milliseconds),
    "nvmlGpmSampleAlloc": lambda _driver: SimpleNamespace(activity=Activity(), share=1.0),
    "nvmlGpmMetricsGet": _metrics,
    "c_nvmlGpmMetricsGet_t": _new_request,
}
_BY_HANDLE: frozenset[Callable[..., Any]] = frozenset({_memory, _name, _uuid, _instance_id})
_OF_CARD: dict[str, Callable[..., Any]] = {
    "nvmlDeviceGetIndex": lambda card: card.index,
    "nvmlDeviceGetUUID": _uuid,
    "nvmlDeviceGetName": _name,
    "nvmlDeviceGetPciInfo": lambda card: SimpleNamespace(busId=f"00000000:{0x1B + 0x10 * card.index:02X}:00.0"),
    "nvmlDeviceGetVbiosVersion": lambda _card: "96.00.74.00.01",
    "nvmlDeviceGetCudaComputeCapability": lambda _card: (9, 0),
    "nvmlDeviceGetMemoryInfo": _memory,
    "nvmlDeviceGetUtilizationRates": _utilization,
    "nvmlDeviceGetEncoderUtilization": lambda card: (0, 167_000) if not card.mig else _refuse(),
    "nvmlDeviceGetDecoderUtilization": lambda card: (0, 167_000) if not card.mig else _refuse(),
    "nvmlDeviceGetPowerUsage": lambda card: round(card.power * 1000),
    "nvmlDeviceGetEnforcedPowerLimit": lambda card: round(card.power_limit * 1000),
    "nvmlDeviceGetTotalEnergyConsumption": lambda card: round(card.joules * 1000),
    "nvmlDeviceGetTemperature": lambda card, _sensor: round(card.celsius),
    "nvmlDeviceGetMarginTemperature": lambda card: round(SLOWDOWN_CELSIUS - card.celsius),
    "nvmlDeviceGetTemperatureThreshold": _threshold,
    "nvmlDeviceGetClockInfo": _clock,
    "nvmlDeviceGetMaxClockInfo": lambda _card, domain: (1980, 1980, 2619, 1545)[domain],
    "nvmlDeviceGetPerformanceState": lambda _card: 0,
    "nvmlDeviceGetCurrPcieLinkGeneration": lambda _card: 5,
    "nvmlDeviceGetMaxPcieLinkGeneration": lambda _card: 5,
    "nvmlDeviceGetCurrPcieLinkWidth": lambda card: card.width,
    "nvmlDeviceGetMaxPcieLinkWidth": lambda _card: 16,
    "nvmlDeviceGetFieldValues": _field_values,
    "nvmlDeviceGetSupportedClocksEventReasons": lambda _card: 0x1FF,
    "nvmlDeviceGetCurrentClocksEventReasons": lambda card: card.reasons,
    "nvmlDeviceGetSamples": _samples,
    "nvmlDeviceGetComputeRunningProcesses_v3": _processes,
    "nvmlDeviceGetMigMode": lambda card: (int(card.mig), int(card.mig)),
    "nvmlDeviceGetMaxMigDeviceCount": lambda card: 7 if card.mig else 0,
    "nvmlDeviceGetMigDeviceHandleByIndex": _mig_device,
    "nvmlDeviceGetGpuInstanceId": _instance_id,
    "nvmlDeviceGetSupportedEventTypes": lambda _card: _XID_EVENT,
    "nvmlDeviceRegisterEvents": lambda _card, _types, _events: None,
    "nvmlGpmQueryDeviceSupport": lambda _card: SimpleNamespace(isSupportedDevice=1),
    "nvmlGpmSampleGet": _take_sample,
    "nvmlGpmMigSampleGet": _take_mig_sample,
}
