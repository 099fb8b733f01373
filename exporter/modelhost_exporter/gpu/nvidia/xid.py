"""XIDs, the driver's critical errors: a thread waits for them and counts them by code."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from modelhost_exporter.gpu import families
from modelhost_exporter.gpu.contract import DeviceLost, Value
from modelhost_exporter.gpu.nvidia.errors import RETRY_UNSUPPORTED_SECONDS, TIMEOUT, UNSUPPORTED, NvmlFailure, check
from modelhost_exporter.logs.rate_limit import LineLimit
from modelhost_exporter.process.daemon_thread import start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from modelhost_exporter.gpu.nvidia.nvml import Nvml
    from modelhost_exporter.process.daemon_thread import Thread

log = logging.getLogger(__name__)

_XID = 0x8  # nvmlEventTypeXidCriticalError
_PAUSE_SECONDS = 1.0
_MAX_LOGGED = 3  # lines a minute for each GPU and code: a program that keeps failing causes thousands of some XIDs


class XidMonitor:
    """A daemon thread that counts the XIDs of all GPUs by code. Counts outlast a lost GPU and a reopened driver."""

    def __init__(
        self,
        nvml: Nvml,
        now: Callable[[], float] = time.time,
        wait_ms: int = 500,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; one wait, and with it the closing of the driver, takes at most ``wait_ms``."""
        self._nvml = nvml
        self._now = now
        self._wait_ms = wait_ms
        self._clock = clock
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._wanted: tuple[int, Mapping[str, Any]] = (0, {})
        self._counts: dict[str, dict[int, int]] = defaultdict(dict)
        self._last: dict[tuple[str, int], float] = {}
        self._line_limit = LineLimit(_MAX_LOGGED, clock)
        self._events: Any = None
        self._allocation = 0
        self._generation = 0
        self._registered: dict[str, int | None] = {}
        self._failing = False
        self._review_at = 0.0
        self._thread: Thread | None = None

    def monitor(self, generation: int, handles: Mapping[str, Any]) -> None:
        """Monitor these GPUs from now on: handle by UUID, and the generation that the handles belong to."""
        self._wanted = (generation, dict(handles))
        is_running = self._thread is not None and self._thread.is_alive()
        if handles and not is_running and not self._stop.is_set():
            self._thread = start(self._run, "gpu-xid")

    def stop(self) -> None:
        """End the thread after its current wait."""
        self._stop.set()

    def values(self, uuid: str) -> Iterator[Value]:
        """Yield one GPU's XID counters, the time of each code's last XID, and whether the GPU is monitored."""
        with self._lock:
            counts = dict(self._counts.get(uuid, {}))
        for xid, count in sorted(counts.items()):
            yield Value(families.XID_ERRORS, (str(xid),), count)
            yield Value(families.XID_LAST, (str(xid),), self._last[uuid, xid])
        generation = self._nvml.generation
        monitored = generation != 0 and generation == self._generation and self._registered.get(uuid) is not None
        monitored = monitored and not self._failing
        yield Value(families.XID_MONITORED, (), float(monitored))

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with self._nvml.using() as generation:
                    waited = self._prepare(generation) and self._wait()
            except DeviceLost:  # with it in the set, the other GPUs' events do not arrive either
                waited = False
                self._generation = 0
            except NvmlFailure:  # the next enumeration reopens the driver
                waited = False
            if not waited:
                self._stop.wait(_PAUSE_SECONDS)

    def _prepare(self, generation: int) -> bool:
        """Register the GPUs that are not registered yet; return whether there is anything to wait for.

        A temporary failure is retried in the next round, a lack of support after 10 minutes.
        """
        self._retry_unsupported()
        with contextlib.suppress(self._nvml.lib.NVMLError):
            if generation != self._generation:
                self._registered = {}
                self._nvml.free(self._allocation)
                self._events = self._new_set()
                self._generation = generation
        if self._events is None or generation != self._generation:
            return False
        wanted_generation, handles = self._wanted
        for uuid, handle in handles.items() if wanted_generation == generation else ():
            if uuid not in self._registered:
                with contextlib.suppress(self._nvml.lib.NVMLError, DeviceLost):
                    self._registered[uuid] = self._register(handle)
        return any(address is not None for address in self._registered.values())

    def _retry_unsupported(self) -> None:
        """Try again, every 10 minutes, what was not supported."""
        if self._clock() < self._review_at:
            return
        self._review_at = self._clock() + RETRY_UNSUPPORTED_SECONDS
        self._registered = {uuid: address for uuid, address in self._registered.items() if address is not None}
        if self._events is None:
            self._generation = 0

    def _new_set(self) -> Any:
        """Return an event set; None on a system without events (WSL2). Raises NVMLError on a temporary failure."""
        lib = self._nvml.lib
        try:
            events = lib.nvmlEventSetCreate()
        except lib.NVMLError as error:
            return self._none_if_unsupported(error)
        self._allocation = self._nvml.keep(lib.nvmlEventSetFree, events)
        return events

    def _register(self, handle: Any) -> int | None:
        """Register for a GPU's XIDs; return the handle's address, None for a GPU without XIDs (vGPU).

        Raises NVMLError on a temporary failure.
        """
        lib = self._nvml.lib
        try:
            if not lib.nvmlDeviceGetSupportedEventTypes(handle) & _XID:
                return None
            lib.nvmlDeviceRegisterEvents(handle, _XID, self._events)
        except lib.NVMLError as error:
            return self._none_if_unsupported(error)
        return _address(handle)

    @staticmethod
    def _none_if_unsupported(error: Any) -> None:
        check(error)
        if error.value not in UNSUPPORTED:
            raise error

    def _wait(self) -> bool:
        """Wait for one event, at most ``wait_ms``; return False when the wait failed."""
        lib = self._nvml.lib
        try:
            event = lib.nvmlEventSetWait_v2(self._events, self._wait_ms)
        except lib.NVMLError as error:
            check(error)
            self._failing = error.value != TIMEOUT
            return not self._failing
        self._failing = False
        if event.eventType & _XID:
            self._count(_address(event.device), int(event.eventData))
        return True

    def _count(self, address: int | None, xid: int) -> None:
        uuid = next((uuid for uuid, known in self._registered.items() if known == address), None)
        if uuid is None:
            return
        with self._lock:
            self._counts[uuid][xid] = self._counts[uuid].get(xid, 0) + 1
            self._last[uuid, xid] = self._now()
        if self._line_limit.pass_line((uuid, xid)) is not None:
            log.warning("XID", extra={"fields": {"uuid": uuid, "xid": xid, "count": self._counts[uuid][xid]}})


def _address(handle: Any) -> int | None:
    """Return the address that a handle points to: the same for one GPU as long as the driver stays open."""
    return ctypes.cast(handle, ctypes.c_void_p).value
