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
from modelhost_exporter.gpu.nvidia import fields, gpm
from modelhost_exporter.gpu.nvidia.errors import NvmlFailure
from modelhost_exporter.gpu.nvidia.memory import is_unified, memory_values, process_memory
from modelhost_exporter.gpu.nvidia.sampler import DriverSampler
from modelhost_exporter.gpu.nvidia.session import DeviceSession
from modelhost_exporter.gpu.polling_pause import PollingPause
from modelhost_exporter.gpu.processes import ProcessNames, memory_by_pid
from modelhost_exporter.logs.state_log import StateLog
from modelhost_exporter.process.periodic_thread import PeriodicThread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from modelhost_exporter.gpu.nvidia.nvml import Nvml
    from modelhost_exporter.gpu.nvidia.query import DeviceQuery
    from modelhost_exporter.gpu.nvidia.xid import XidMonitor
    from modelhost_exporter.gpu.runtime_suspend import PciDevices

log = logging.getLogger(__name__)

_SAMPLE_SECONDS = 1.0  # the shortest buffer known holds 2 s
_PCIE_LINK = frozenset(
    (families.PCIE_GENERATION, families.PCIE_GENERATION_MAX, families.PCIE_WIDTH, families.PCIE_WIDTH_MAX)
)
_GPM_RATIOS = {
    gpm.SM_UTIL: families.SM_ACTIVE,
    gpm.SM_OCCUPANCY: families.SM_OCCUPANCY,
    gpm.ANY_TENSOR: families.TENSOR_ACTIVE,
    gpm.DRAM_BANDWIDTH: families.DRAM_ACTIVE,
}
_GPM_TRAFFIC = {gpm.PCIE_TX: families.PCIE_TRANSMITTED, gpm.PCIE_RX: families.PCIE_RECEIVED}


@dataclass(frozen=True)
class DeviceDependencies:
    """What all NVIDIA GPUs of a machine share; tests and the demo replace parts of it."""

    nvml: Nvml
    xids: XidMonitor
    pci: PciDevices
    names: ProcessNames = field(default_factory=ProcessNames)
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    host_memory: Callable[[], int] = lambda: int(psutil.virtual_memory().total)
    """Returns the host's memory in bytes."""
    sample_seconds: float = _SAMPLE_SECONDS
    """Interval at which the driver's samples are read between scrapes."""


class NeedsReset(NotAnswering):
    """Every query fails until the GPU is reset."""


class NotAttached(Exception):
    """The driver is being opened again, which takes long or hangs."""


class NvidiaDevice:
    """One NVIDIA GPU, by its UUID; its counters stay while it is lost, and go on when it is attached again."""

    def __init__(self, identity: Identity, dependencies: DeviceDependencies) -> None:
        self.identity = identity
        self._dependencies = dependencies
        self._session: DeviceSession | None = None
        self._sampler = DriverSampler(dependencies.clock, dependencies.now)
        self._sampling: PeriodicThread | None = None
        self._transferred = dict.fromkeys(_GPM_TRAFFIC, 0.0)
        self._closed = False
        self._found_logged = StateLog(initial=False)
        self._all_failed = False
        self._driver_closed = False
        self.polling_pause = PollingPause(
            lambda: dependencies.pci.is_suspended(self.identity.pci_bus_id),
            lambda: dependencies.pci.may_suspend(self.identity.pci_bus_id),
            dependencies.clock,
        )
        self.lost = False
        """Whether the driver has reported the GPU as lost since it was attached."""
        self.memory_by_pid: dict[int, float] | None = None

    @property
    def suspended(self) -> bool:
        """Whether the system has suspended it."""
        return self.polling_pause.is_suspended()

    @property
    def polling_paused(self) -> bool:
        """Whether it is not queried for a while, so that the system can suspend it."""
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
            generation, self._dependencies.nvml, handle, self._dependencies.clock, self._transferred
        )

    def detach(self) -> None:
        """Drop the handle: the GPU, or the driver, is gone."""
        self._session = None

    def detach_until_reopened(self) -> None:
        """Drop the handle: the driver is closed until one of its GPUs is used. Polling counts as paused meanwhile."""
        self._driver_closed = True
        self._session = None

    def close(self) -> None:
        """End the sampling thread."""
        self._closed = True
        if self._sampling is not None:
            self._sampling.stop()

    def accumulated(self) -> Iterator[Value]:
        """Yield the XIDs and, unless the GPU is gone or fails every query, the counters of samples."""
        if not self._all_failed and (self._session is not None or self._driver_closed or self.suspended):
            yield from self._sampler.values()
        yield from self._dependencies.xids.values(self.identity.uuid)

    def read(self) -> list[Value]:
        """Query everything that the GPU supports.

        Raises DeviceLost or NvmlFailure when the GPU or the driver is gone, NotAttached while an enumeration has not
        found the GPU again, and NotAnswering when no query succeeded (cached and fixed values do not count).
        """
        with self._recording_loss(), self._dependencies.nvml.using() as generation:
            session = self._session
            if session is None or session.generation != generation:
                raise NotAttached("the driver was reopened, and the GPU has not been enumerated since")
            session.probe(self.identity.driver_version)
            session.query.begin_reading()
            values = self._values(session)
            self._all_failed = session.query.all_failed
            if self._all_failed:
                session.retry_unsupported()  # where nothing succeeds, "not supported" proves nothing
                raise _not_answering(session.query)
            if session.mig.switched:  # the GPU supports other fields now: a divided one has no utilisation
                session.reset()
                self._sampler.expect_restart()
            self._sampler.update(session.sampling_query, session.pcie_counters)
            values.append(Value(families.FIELDS_LOST, (), session.lost))
        self._log_found(session.query)
        self.polling_pause.update(values)
        self._ensure_sampling()
        return values

    def _ensure_sampling(self) -> None:
        """Start the sampling thread after the first reading; end it where the GPU was closed meanwhile."""
        if self._sampling is None:
            self._sampling = PeriodicThread(
                self.sample,
                lambda _: self._dependencies.sample_seconds,
                f"gpu-samples-{self.identity.gpu}",
                at_once=False,
            )
        if self._closed:
            self._sampling.stop()

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
                self._sampler.update(session.sampling_query, session.pcie_counters)

    @contextlib.contextmanager
    def _recording_loss(self) -> Iterator[None]:
        try:
            yield
        except DeviceLost:
            self.lost = True
            raise

    def _values(self, session: DeviceSession) -> list[Value]:
        """Return all values; the PCIe link of a GPU that shares the host's memory is inside the chip."""
        values = list(self._queried(session))
        if is_unified(session.query):
            return [value for value in values if value.family not in _PCIE_LINK]
        return values

    def _queried(self, session: DeviceSession) -> Iterator[Value]:
        query, names = session.query, self._dependencies.names
        processes = process_memory(query)
        yield from session.fixed
        yield from session.measures.read()
        yield from fields.utilization(query)
        yield from fields.fans(query)
        if session.throttle_reasons is not None:
            yield from session.throttle_reasons.read(query)
        yield from memory_values(query, processes, self._dependencies.host_memory)
        yield from self._energy(query)
        yield from self._activity(session.gpm)
        for name, memory in names.memory(processes or ()).items():
            yield Value(families.PROCESS_MEMORY, (name,), memory)
        yield from session.mig.read(processes, names)
        self.memory_by_pid = None if is_unified(query) else memory_by_pid(processes)

    def _energy(self, query: DeviceQuery) -> Iterator[Value]:
        """Yield the card's own counter; where it has none, power samples are added up from now on."""
        if self._sampler.has_power:
            return
        value = fields.ENERGY.read(query)
        if value is not None:
            yield value
        self._sampler.wants_power = all(map(query.is_unsupported, fields.ENERGY.sources))

    def _activity(self, monitor: gpm.Gpm | None) -> Iterator[Value]:
        """Yield the values of GPM; where it does not report PCIe traffic, the driver's counters are added up."""
        means = monitor.read() if monitor else {}
        for family, ratio in gpm.ratios(means, _GPM_RATIOS):
            yield Value(family, (), ratio)
        self._sampler.wants_pcie = self._sampler.has_pcie or monitor is None or monitor.reports_traffic is False
        if monitor is not None and monitor.reports_traffic and not self._sampler.has_pcie:
            for metric, family in _GPM_TRAFFIC.items():
                yield Value(family, (), monitor.transferred[metric])

    def _log_found(self, query: DeviceQuery) -> None:
        """Log once that the GPU was found, and what it does not support."""
        if self._found_logged.changed(state=True):
            without = ",".join(query.unsupported_names())
            log.info(
                "GPU found",
                extra={"fields": {"gpu": self.identity.gpu, "name": self.identity.name, "without": without}},
            )


def _not_answering(query: DeviceQuery) -> NotAnswering:
    """Return the exception for a reading in which every query failed."""
    if query.needs_reset:
        return NeedsReset("every query fails until the GPU is reset: nvidia-smi --gpu-reset")
    return NotAnswering(f"every query failed: {query.errors()}")
