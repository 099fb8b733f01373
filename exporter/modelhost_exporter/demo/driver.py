"""A stand-in for nvidia-ml-py with simulated GPUs: the library, its handles and events."""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from modelhost_exporter.demo.cards import (
    BY_HANDLE,
    FIELD,
    MIG_HANDLE,
    OF_CARD,
    XID_EVENT,
    DriverError,
    handle_of,
    instance_of,
)
from modelhost_exporter.demo.gpus import Activity
from modelhost_exporter.gpu.nvidia import gpm
from modelhost_exporter.gpu.nvidia.errors import GPU_IS_LOST, TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from modelhost_exporter.demo.gpus import SimulatedCard

DRIVER_VERSION = "580.95.05"
_MAX_DELIVERY_SECONDS = 1.0


class SimulatedDriver:
    """The library's functions that the exporter calls; those for one GPU are in cards.py."""

    NVMLError = DriverError
    NVML_ERROR_LIBRARY_NOT_FOUND = 12
    NVML_GPM_METRICS_GET_VERSION = 1
    nvmlMemory_v2 = 2  # noqa: N815 - the library's name
    c_nvmlFieldValue_t = ctypes.c_char * FIELD.size  # noqa: N815 - likewise

    def __init__(self, cards: Sequence[SimulatedCard]) -> None:
        self._cards = cards
        self._events = _Events()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return a function of the library; AttributeError for a missing one."""
        if name in _OF_LIBRARY:
            return partial(_OF_LIBRARY[name], self)
        if name in OF_CARD:
            return partial(self._about, OF_CARD[name])
        raise AttributeError(name)

    def _nvmlGetFunctionPointer(self, name: str) -> Callable[..., None]:  # noqa: N802 - the library's name
        """Return the driver's own function, which fills an array, for a function of the library that returns values."""
        function = getattr(self, name)

        def fill(handle: ctypes.c_void_p, _count: int, reference: Any) -> None:
            array = reference._obj  # noqa: SLF001 - of ctypes.byref()
            fields = [(number, scope) for number, scope, *_ in FIELD.iter_unpack(array)]
            ctypes.memmove(array, function(handle, fields), ctypes.sizeof(array))

        return fill

    def _nvmlCheckReturn(self, _code: None) -> None:  # noqa: N802 - the library's name
        """Accept the result: a function that fails has raised DriverError."""

    def report(self, card: SimulatedCard, xid: int) -> None:
        """Report an XID; returns once a waiting thread has received it, or after a second."""
        self._events.push(handle_of(card), xid)

    def wait(self, milliseconds: int) -> Any:
        """Wait for an event."""
        event = self._events.pop(milliseconds / 1000)
        if event is None:
            raise DriverError(TIMEOUT)
        handle, xid = event
        return SimpleNamespace(eventType=XID_EVENT, device=handle, eventData=xid)

    @property
    def count(self) -> int:
        """Number of GPUs that the driver counts, those that fell off the bus included."""
        return len(self._cards)

    def handle(self, index: int) -> ctypes.c_void_p:
        """Return the handle of a GPU that is on the bus."""
        card = self._cards[index]
        if not card.on_bus:
            raise DriverError(GPU_IS_LOST)
        return handle_of(card)

    def card(self, handle: ctypes.c_void_p) -> SimulatedCard:
        """Return the GPU of a handle; for a MIG instance, its parent."""
        number = (handle.value or 0) - 1
        card = self._cards[number // MIG_HANDLE - 1 if number >= MIG_HANDLE else number]
        if not card.on_bus:
            raise DriverError(GPU_IS_LOST)
        return card

    def _about(self, answer: Callable[..., Any], handle: ctypes.c_void_p, *arguments: Any) -> Any:
        card = self.card(handle)
        return answer(card, *arguments, *(() if answer not in BY_HANDLE else (instance_of(handle),)))


class _Events:
    """XIDs that the waiting thread has not received yet."""

    def __init__(self) -> None:
        self._queue: deque[tuple[ctypes.c_void_p, int]] = deque()
        self._changed = threading.Condition()
        self._attended = self._waiting = False

    def push(self, handle: ctypes.c_void_p, xid: int) -> None:
        with self._changed:
            self._queue.append((handle, xid))
            self._changed.notify_all()
            if self._attended:
                self._changed.wait_for(lambda: not self._queue and self._waiting, _MAX_DELIVERY_SECONDS)

    def pop(self, seconds: float) -> tuple[ctypes.c_void_p, int] | None:
        with self._changed:
            self._attended = self._waiting = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: bool(self._queue), seconds)
            self._waiting = not self._queue
            return self._queue.popleft() if self._queue else None


def _metrics(_driver: SimulatedDriver, request: Any) -> None:
    """Fill a request's values with the means between its two samples."""
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


def _new_request(_driver: SimulatedDriver) -> Any:
    metrics = [SimpleNamespace(metricId=0, nvmlReturn=0, value=0.0) for _ in range(16)]
    return SimpleNamespace(version=0, numMetrics=0, metrics=metrics, sample1=None, sample2=None)


_OF_LIBRARY: dict[str, Callable[..., Any]] = {
    "nvmlInit": lambda _driver: None,
    "nvmlShutdown": lambda _driver: None,
    "nvmlSystemGetDriverVersion": lambda _driver: DRIVER_VERSION,
    "nvmlDeviceGetCount": lambda driver: driver.count,
    "nvmlDeviceGetHandleByIndex": lambda driver, index: driver.handle(index),
    "nvmlEventSetCreate": lambda _driver: object(),
    "nvmlEventSetFree": lambda *_: None,
    "nvmlEventSetWait_v2": lambda driver, _events, milliseconds: driver.wait(milliseconds),
    "nvmlGpmSampleAlloc": lambda _driver: SimpleNamespace(activity=Activity(), share=1.0),
    "nvmlGpmSampleFree": lambda *_: None,
    "nvmlGpmMetricsGet": _metrics,
    "c_nvmlGpmMetricsGet_t": _new_request,
}
