"""One NVIDIA GPU: its queries during a scrape, and its counters between scrapes."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil

from modelhost_exporter.gpu import families
from modelhost_exporter.gpu.contract import DeviceLost, Identity, NotAnswering, Value
from modelhost_exporter.gpu.nvidia import calls, gpm
from modelhost_exporter.gpu.nvidia import fields as nvidia_fields
from modelhost_exporter.gpu.nvidia.mig import memory_info
from modelhost_exporter.gpu.nvidia.nvml import NOT_SUPPORTED, Nvml, NvmlFailure
from modelhost_exporter.gpu.nvidia.query import DeviceQuery, NvmlCall
from modelhost_exporter.gpu.nvidia.sampler import DriverSampler
from modelhost_exporter.gpu.nvidia.session import DeviceSession
from modelhost_exporter.gpu.polling_pause import PollingPause
from modelhost_exporter.gpu.processes import ProcessMemory, ProcessNames
from modelhost_exporter.gpu.usage_cache import memory_by_pid
from modelhost_exporter.logs.state_log import StateLog
from modelhost_exporter.process.periodic_thread import PeriodicThread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from modelhost_exporter.gpu.nvidia.xid import XidMonitor
    from modelhost_exporter.gpu.runtime_suspend import PciDevices

log = logging.getLogger(__name__)

_SAMPLE_SECONDS = 1.0  # the shortest buffer known holds 2 s
_MEMORY = NvmlCall("nvmlDeviceGetMemoryInfo")
_GPM_RATIOS = {
    gpm.SM_UTIL: families.SM_ACTIVE,
    gpm.SM_OCCUPANCY: families.SM_OCCUPANCY,
    gpm.ANY_TENSOR: families.TENSOR_ACTIVE,
    gpm.DRAM_BANDWIDTH: families.DRAM_ACTIVE,
}
_GPM_TRAFFIC = {gpm.PCIE_TX: families.PCIE_TRANSMITTED, gpm.PCIE_RX: families.PCIE_RECEIVED}


@dataclass(frozen=True)
class DeviceDependencies:
    """What every NVIDIA GPU of a machine shares; tests put their own in."""

    nvml: Nvml
    xids: XidMonitor
    pci: PciDevices
    names: ProcessNames = field(default_factory=ProcessNames)
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    host_memory: Callable[[], int] = lambda: int(psutil.virtual_memory().total)
    sample_seconds: float = _SAMPLE_SECONDS


class NeedsReset(NotAnswering):
    """The GPU has to be reset before it answers."""


class NotAttached(Exception):
    """The driver is being opened anew, which takes long or hangs."""


class NvidiaDevice:
    """One NVIDIA GPU, by its UUID; it may be lost and be attached again, and keeps what was added up."""

    def __init__(self, identity: Identity, dependencies: DeviceDependencies) -> None:
        self.identity = identity
        self._dependencies = dependencies
        self._session: DeviceSession | None = None
        self._sampler = DriverSampler(dependencies.clock, dependencies.now)
        self._sampling: PeriodicThread | None = None
        self._moved = dict.fromkeys(_GPM_TRAFFIC, 0.0)
        self._closed = False
        self._found_logged = StateLog(initial=False)
        self._silent = False
        self._driver_closed = False
        self.polling_pause = PollingPause(
            lambda: dependencies.pci.is_suspended(self.identity.pci_bus_id),
            lambda: dependencies.pci.may_suspend(self.identity.pci_bus_id),
            dependencies.clock,
        )
        """When it sleeps, and when it is left alone so that it can."""
        self.lost = False
        """Whether the driver reported this since the GPU was attached."""
        self.memory_by_pid: dict[int, float] | None = None

    @property
    def suspended(self) -> bool:
        """Whether the system has put it to sleep."""
        return self.polling_pause.is_suspended()

    @property
    def polling_paused(self) -> bool:
        """Whether it is left alone for a while, so that the system can suspend it."""
        return self.polling_pause.active or self._driver_closed

    @property
    def handle(self) -> Any:
        """The driver's handle; None while the GPU is not attached."""
        return self._session.query.handle if self._session else None

    def attach(self, generation: int, handle: Any, identity: Identity) -> None:
        """Use the handle that the reopened driver returned for this GPU."""
        self.identity = identity
        self.lost = self._driver_closed = False
        self._sampler.expect_restart()
        self._session = DeviceSession(
            generation, self._dependencies.nvml, handle, self._dependencies.clock, self._moved
        )

    def detach(self) -> None:
        """Forget the handle: the GPU, or the driver, is gone."""
        self._session = None

    def detach_until_reopened(self) -> None:
        """Forget the handle, because the driver is closed until its GPUs are used; its polling counts as paused."""
        self._driver_closed = True
        self._session = None

    def close(self) -> None:
        """Let the sampling thread end."""
        self._closed = True
        if self._sampling is not None:
            self._sampling.stop()

    def accumulated(self) -> Iterator[Value]:
        """Yield the XIDs and, unless the GPU is gone or silent, what was added up."""
        if not self._silent and (self._session is not None or self._driver_closed or self.suspended):
            yield from self._sampler.values()
        yield from self._dependencies.xids.values(self.identity.uuid)

    def read(self) -> list[Value]:
        """Query everything that the GPU supports.

        Raises Lost or NvmlFailure when it, or the driver, is gone, NotAttached before a census has found it again, and
        NotAnswering when no query succeeded; what is cached or fixed does not count.
        """
        with self._recording_loss(), self._dependencies.nvml.using() as generation:
            session = self._session
            if session is None or session.generation != generation:
                raise NotAttached("the driver was opened anew and has not said yet whether it is there")
            session.probe(self.identity.driver_version)
            session.query.begin_reading()
            values = list(self._values(session))
            self._silent = session.query.silent
            if self._silent:
                session.retry_unsupported()  # a reading without any success proves nothing unsupported
                raise _not_answering(session.query)
            if session.mig.switched:  # a divided GPU has no utilisation, say
                session.reset()
                self._sampler.expect_restart()
            self._sampler.update(session.sampling, session.pcie)
            values.append(Value(families.FIELDS_LOST, (), session.lost))
        self._log_found(session.query)
        self.polling_pause.update(values)
        if self._sampling is None:
            self._sampling = PeriodicThread(
                self.sample,
                lambda _: self._dependencies.sample_seconds,
                f"gpu-samples-{self.identity.gpu}",
                at_once=False,
            )
        if self._closed and self._sampling is not None:  # closed while it was being read
            self._sampling.stop()
        return values

    def sample(self) -> None:
        """Add new samples to the counters, unless suspended or paused. The next reading reports a lost GPU."""
        session = self._session
        if session is None or self.polling_paused or self.suspended:
            return
        with (
            contextlib.suppress(NvmlFailure, DeviceLost),
            self._recording_loss(),
            self._dependencies.nvml.using() as generation,
        ):
            if session.generation == generation:
                self._sampler.update(session.sampling, session.pcie)

    @contextlib.contextmanager
    def _recording_loss(self) -> Iterator[None]:
        try:
            yield
        except DeviceLost:
            self.lost = True
            raise

    def _values(self, session: DeviceSession) -> Iterator[Value]:
        query = session.query
        usages = calls.usages(query)
        yield from session.fixed
        yield from session.measures.read()
        yield from calls.utilization(query)
        yield from calls.fans(query)
        yield from calls.throttled(session)
        yield from self._memory(query, usages)
        yield from self._energy(query)
        yield from self._activity(session)
        for name, memory in self._dependencies.names.memory(usages or ()).items():
            yield Value(families.PROCESS_MEMORY, (name,), memory)
        yield from session.mig.read(usages, self._dependencies.names)
        unified = query.why(_MEMORY) == NOT_SUPPORTED
        self.memory_by_pid = None if unified else memory_by_pid(usages)

    def _memory(self, query: DeviceQuery, usages: list[ProcessMemory] | None) -> Iterator[Value]:
        info = memory_info(query)
        if info is not None and info.total != 0:
            yield Value(families.MEMORY_TOTAL, (), info.total)
            yield Value(families.MEMORY_USED, (), info.used)
            yield Value(families.MEMORY_FREE, (), info.free)
            yield Value(families.MEMORY_RESERVED, (), info.reserved)
        elif query.why(_MEMORY) == NOT_SUPPORTED:
            yield from self._unified_memory(usages)

    def _unified_memory(self, usages: list[ProcessMemory] | None) -> Iterator[Value]:
        """Yield the host's memory, and what the processes on the GPU hold of it if all of that is known."""
        yield Value(families.UNIFIED_MEMORY, (), 1)
        yield Value(families.MEMORY_TOTAL, (), self._dependencies.host_memory())
        sizes = [usage.memory for usage in usages or ()]
        if usages is not None and None not in sizes:
            yield Value(families.MEMORY_USED, (), sum(size or 0 for size in sizes))

    def _energy(self, query: DeviceQuery) -> Iterator[Value]:
        """Yield the card's own counter; where it has none, power samples are added up from now on."""
        if self._sampler.has_power:
            return
        value = nvidia_fields.ENERGY.read(query)
        if value is not None:
            yield value
        self._sampler.wants_power = all(map(query.lacks, nvidia_fields.ENERGY.ways))

    def _activity(self, session: DeviceSession) -> Iterator[Value]:
        """Yield the values of performance monitoring; PCIe traffic comes from the driver's counters instead."""
        monitor = session.gpm
        metrics = monitor.read() if monitor else {}
        for family, ratio in gpm.ratios(metrics, _GPM_RATIOS):
            yield Value(family, (), ratio)
        self._sampler.wants_pcie = self._sampler.has_pcie or monitor is None or monitor.moves is False
        if monitor is not None and monitor.moves and not self._sampler.has_pcie:
            for metric, family in _GPM_TRAFFIC.items():
                yield Value(family, (), monitor.moved[metric])

    def _log_found(self, query: DeviceQuery) -> None:
        """Log once what the GPU does not have."""
        if self._found_logged.changed(state=True):
            without = ",".join(query.lacking_names())
            log.info(
                "GPU found",
                extra={"fields": {"gpu": self.identity.gpu, "name": self.identity.name, "without": without}},
            )


def _not_answering(query: DeviceQuery) -> NotAnswering:
    """Return the exception for a reading in which every query failed."""
    if query.needs_reset:
        return NeedsReset("it answers nothing until it is reset")
    return NotAnswering(f"every query failed: {query.errors()}")
