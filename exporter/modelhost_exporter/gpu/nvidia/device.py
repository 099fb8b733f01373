"""One NVIDIA GPU: what it is asked in a scrape, and what is added up for it between scrapes."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil

from modelhost_exporter.gpu import families
from modelhost_exporter.gpu.contract import Identity, Lost, NotAnswering, Value
from modelhost_exporter.gpu.nvidia import calls, gpm
from modelhost_exporter.gpu.nvidia import fields as nvidia_fields
from modelhost_exporter.gpu.nvidia.mig import memory_info
from modelhost_exporter.gpu.nvidia.nvml import NOT_SUPPORTED, Nvml, NvmlFailure
from modelhost_exporter.gpu.nvidia.query import Asker, Call
from modelhost_exporter.gpu.nvidia.sampler import Sampler
from modelhost_exporter.gpu.nvidia.session import Session
from modelhost_exporter.gpu.power_saving import Rest
from modelhost_exporter.gpu.processes import Names, Usage
from modelhost_exporter.gpu.usage_cache import memory_by_pid
from modelhost_exporter.logs.state_log import StateLog
from modelhost_exporter.process.periodic_thread import PeriodicThread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from modelhost_exporter.gpu.nvidia.xid import XidWatcher
    from modelhost_exporter.gpu.runtime_suspend import PciDevices

log = logging.getLogger(__name__)

_SAMPLE_SECONDS = 1.0  # the shortest buffer known holds 2 s
_MEMORY = Call("nvmlDeviceGetMemoryInfo")
_GPM_RATIOS = {
    gpm.SM_UTIL: families.SM_ACTIVE,
    gpm.SM_OCCUPANCY: families.SM_OCCUPANCY,
    gpm.ANY_TENSOR: families.TENSOR_ACTIVE,
    gpm.DRAM_BANDWIDTH: families.DRAM_ACTIVE,
}
_GPM_TRAFFIC = {gpm.PCIE_TX: families.PCIE_TRANSMITTED, gpm.PCIE_RX: families.PCIE_RECEIVED}


@dataclass(frozen=True)
class Surroundings:
    """What every NVIDIA GPU of a machine shares; tests put their own in."""

    nvml: Nvml
    xids: XidWatcher
    pci: PciDevices
    names: Names = field(default_factory=Names)
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

    def __init__(self, identity: Identity, around: Surroundings) -> None:
        self.identity = identity
        self._around = around
        self._session: Session | None = None
        self._sampler = Sampler(around.clock, around.now)
        self._sampling: PeriodicThread | None = None
        self._moved = dict.fromkeys(_GPM_TRAFFIC, 0.0)
        self._closed = False
        self._found_logged = StateLog(initial=False)
        self._silent = False
        self._put_down = False
        self.rest = Rest(
            lambda: around.pci.is_asleep(self.identity.pci_bus_id),
            lambda: around.pci.may_sleep(self.identity.pci_bus_id),
            around.clock,
        )
        """When it sleeps, and when it is left alone so that it can."""
        self.lost = False
        """Whether the driver said so since the GPU was attached."""
        self.memory_by_pid: dict[int, float] | None = None

    @property
    def asleep(self) -> bool:
        """Whether the system has put it to sleep."""
        return self.rest.asleep()

    @property
    def resting(self) -> bool:
        """Whether it is left alone for a while, so that it can fall asleep."""
        return self.rest.on or self._put_down

    @property
    def handle(self) -> Any:
        """The driver's handle; None while the GPU is not attached."""
        return self._session.asker.handle if self._session else None

    def attach(self, generation: int, handle: Any, identity: Identity) -> None:
        """Take the handle that the driver, opened anew, gave for this GPU."""
        self.identity = identity
        self.lost = self._put_down = False
        self._sampler.begin_anew()
        self._session = Session(generation, self._around.nvml, handle, self._around.clock, self._moved)

    def detach(self) -> None:
        """Forget the handle: the GPU, or the driver, is gone."""
        self._session = None

    def put_down(self) -> None:
        """Forget the handle, because the driver is closed until somebody uses its GPUs; it counts as resting."""
        self._put_down = True
        self._session = None

    def close(self) -> None:
        """Let the sampling thread end."""
        self._closed = True
        if self._sampling is not None:
            self._sampling.stop()

    def remembered(self) -> Iterator[Value]:
        """Yield the XIDs and, unless the GPU is gone or silent, what was added up."""
        if not self._silent and (self._session is not None or self._put_down or self.asleep):
            yield from self._sampler.values()
        yield from self._around.xids.values(self.identity.uuid)

    def read(self) -> list[Value]:
        """Ask the GPU everything that it has.

        Raises Lost or NvmlFailure when it, or the driver, is gone, NotAttached before a census has found it again, and
        NotAnswering when no query succeeded; what is cached or fixed does not count.
        """
        with self._noting_loss(), self._around.nvml.using() as generation:
            session = self._session
            if session is None or session.generation != generation:
                raise NotAttached("the driver was opened anew and has not said yet whether it is there")
            session.probe(self.identity.driver_version)
            session.asker.begin_reading()
            values = list(self._ask(session))
            self._silent = session.asker.silent
            if self._silent:
                session.expect_more()  # refusals of a reading without any success are not remembered
                raise _silence(session.asker)
            if session.mig.switched:  # a divided GPU has no utilisation, say
                session.begin_anew()
                self._sampler.begin_anew()
            self._sampler.take(session.sampling, session.pcie)
            values.append(Value(families.FIELDS_LOST, (), session.lost))
        self._tell(session.asker)
        self.rest.note(values)
        if self._sampling is None:
            self._sampling = PeriodicThread(
                self.sample,
                lambda _: self._around.sample_seconds,
                f"gpu-samples-{self.identity.gpu}",
                at_once=False,
            )
        if self._closed and self._sampling is not None:  # closed while it was being read
            self._sampling.stop()
        return values

    def sample(self) -> None:
        """Add up what is new; not while it sleeps, or is to. Quiet when it is gone: the next reading tells."""
        session = self._session
        if session is None or self.resting or self.asleep:
            return
        with contextlib.suppress(NvmlFailure, Lost), self._noting_loss(), self._around.nvml.using() as generation:
            if session.generation == generation:
                self._sampler.take(session.sampling, session.pcie)

    @contextlib.contextmanager
    def _noting_loss(self) -> Iterator[None]:
        try:
            yield
        except Lost:
            self.lost = True
            raise

    def _ask(self, session: Session) -> Iterator[Value]:
        asker = session.asker
        usages = calls.usages(asker)
        yield from session.fixed
        yield from session.questions.ask()
        yield from calls.utilization(asker)
        yield from calls.fans(asker)
        yield from calls.throttled(session)
        yield from self._memory(asker, usages)
        yield from self._energy(asker)
        yield from self._activity(session)
        for name, memory in self._around.names.memory(usages or ()).items():
            yield Value(families.PROCESS_MEMORY, (name,), memory)
        yield from session.mig.read(usages, self._around.names)
        unified = asker.why(_MEMORY) == NOT_SUPPORTED
        self.memory_by_pid = None if unified else memory_by_pid(usages)

    def _memory(self, asker: Asker, usages: list[Usage] | None) -> Iterator[Value]:
        info = memory_info(asker)
        if info is not None and info.total != 0:
            yield Value(families.MEMORY_TOTAL, (), info.total)
            yield Value(families.MEMORY_USED, (), info.used)
            yield Value(families.MEMORY_FREE, (), info.free)
            yield Value(families.MEMORY_RESERVED, (), info.reserved)
        elif asker.why(_MEMORY) == NOT_SUPPORTED:
            yield from self._unified_memory(usages)

    def _unified_memory(self, usages: list[Usage] | None) -> Iterator[Value]:
        """Yield the host's memory, and what the processes on the GPU hold of it if all of that is known."""
        yield Value(families.UNIFIED_MEMORY, (), 1)
        yield Value(families.MEMORY_TOTAL, (), self._around.host_memory())
        sizes = [usage.memory for usage in usages or ()]
        if usages is not None and None not in sizes:
            yield Value(families.MEMORY_USED, (), sum(size or 0 for size in sizes))

    def _energy(self, asker: Asker) -> Iterator[Value]:
        """Yield the card's own counter; where it has none, power samples are added up from now on."""
        if self._sampler.has_power:
            return
        value = nvidia_fields.ENERGY.read(asker)
        if value is not None:
            yield value
        self._sampler.wants_power = all(map(asker.lacks, nvidia_fields.ENERGY.ways))

    def _activity(self, session: Session) -> Iterator[Value]:
        """Yield what performance monitoring says; PCIe traffic is added up from the driver's counters elsewhere."""
        monitor = session.gpm
        metrics = monitor.read() if monitor else {}
        for family, ratio in gpm.ratios(metrics, _GPM_RATIOS):
            yield Value(family, (), ratio)
        self._sampler.wants_pcie = self._sampler.has_pcie or monitor is None or monitor.moves is False
        if monitor is not None and monitor.moves and not self._sampler.has_pcie:
            for metric, family in _GPM_TRAFFIC.items():
                yield Value(family, (), monitor.moved[metric])

    def _tell(self, asker: Asker) -> None:
        """Log once what the GPU does not have."""
        if self._found_logged.changed(state=True):
            without = ",".join(asker.lacking_names())
            log.info(
                "GPU found",
                extra={"fields": {"gpu": self.identity.gpu, "name": self.identity.name, "without": without}},
            )


def _silence(asker: Asker) -> NotAnswering:
    """Return the exception for a reading in which every query failed."""
    if asker.needs_reset:
        return NeedsReset("it answers nothing until it is reset")
    return NotAnswering(f"every query failed: {asker.errors()}")
