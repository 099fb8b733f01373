"""One NVIDIA GPU: what it is asked in a scrape, and what is added up for it between scrapes."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil

from exporter.gpu import families, gpm, nvidia_fields
from exporter.gpu.asker import Asker, Call
from exporter.gpu.mig import Mig, memory_info
from exporter.gpu.nvidia_fields import Questions
from exporter.gpu.nvml import NOT_SUPPORTED, Nvml, NvmlFailure
from exporter.gpu.processes import Names, Usage
from exporter.gpu.reading import Identity, Lost, Value
from exporter.gpu.sampler import Every, Sampler
from exporter.gpu.uses import memory_by_pid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from exporter.gpu.sleep import PciDevices
    from exporter.gpu.xid import XidWatcher

log = logging.getLogger(__name__)

_SAMPLE_SECONDS = 1.0  # the shortest buffer known holds 2 s
_MEMORY = Call("nvmlDeviceGetMemoryInfo")
_PROCESS_LISTS = (
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetGraphicsRunningProcesses_v3",
    "nvmlDeviceGetMPSComputeRunningProcesses_v3",
)
_NO_INSTANCE = 0xFFFFFFFF
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


class _Session:
    """What is known of the GPU for as long as the driver stays open: its handle, and what it has."""

    def __init__(
        self, generation: int, lib: Any, handle: Any, clock: Callable[[], float], moved: dict[int, float]
    ) -> None:
        self.generation = generation
        self.asker = Asker(lib, handle)
        self.sampling = Asker(lib, handle)  # another thread's
        self.pcie = Questions(self.sampling, nvidia_fields.PCIE_COUNTERS)
        self.mig = Mig(self.asker, clock)
        self.probed = False
        self.fixed: Sequence[Value] = ()
        self.questions = Questions(self.asker, ())
        self.throttle: tuple[str, int] | None = None
        self.gpm: gpm.Gpm | None = None
        self._clock = clock
        self._moved = moved

    def probe(self, driver_version: str) -> None:
        """Find out once what the GPU has."""
        if self.probed:
            return
        lib, handle = self.asker.lib, self.asker.handle
        counters, links = nvidia_fields.throttle_counters(driver_version), nvidia_fields.nvlinks(self.asker)
        self.questions = Questions(self.asker, (*nvidia_fields.CURRENT, *counters, *links))
        self.throttle = self._throttle_reasons()
        if gpm.is_supported(lib, handle):
            self.gpm = gpm.Gpm(lib, lambda sample: lib.nvmlGpmSampleGet(handle, sample), self._clock, self._moved)
        self.fixed = Questions(self.asker, nvidia_fields.FIXED).ask()
        self.probed = True

    def _throttle_reasons(self) -> tuple[str, int] | None:
        """Return the function that gives the current reasons, and the mask of those the GPU can give."""
        for word in ("Event", "Throttle"):  # renamed with driver 535
            supported = self.asker.call(f"nvmlDeviceGetSupportedClocks{word}Reasons")
            if supported is not None:
                return f"nvmlDeviceGetCurrentClocks{word}Reasons", supported
        return None


class NvidiaDevice:
    """One NVIDIA GPU, by its UUID; it may be lost and be attached again, and keeps what was added up."""

    def __init__(self, identity: Identity, around: Surroundings) -> None:
        self.identity = identity
        self._around = around
        self._session: _Session | None = None
        self._sampler = Sampler(around.clock, around.now)
        self._sampling: Every | None = None
        self._moved = dict.fromkeys(_GPM_TRAFFIC, 0.0)
        self._closed = False
        self._told = False
        self.lost = False
        """Whether the driver said so since the GPU was attached."""
        self.memory_by_pid: dict[int, float] | None = None

    @property
    def asleep(self) -> bool:
        """Whether the system has put it to sleep."""
        return self._around.pci.is_asleep(self.identity.pci_bus_id)

    @property
    def handle(self) -> Any:
        """The driver's handle; None while the GPU is not attached."""
        return self._session.asker.handle if self._session else None

    def attach(self, generation: int, handle: Any, identity: Identity) -> None:
        """Take the handle that the driver, opened anew, gave for this GPU."""
        self.identity = identity
        self.lost = False
        self._sampler.begin_anew()
        self._session = _Session(generation, self._around.nvml.lib, handle, self._around.clock, self._moved)

    def detach(self) -> None:
        """Forget the handle: the GPU, or the driver, is gone."""
        self._session = None

    def close(self) -> None:
        """Let the sampling thread end."""
        self._closed = True
        if self._sampling is not None:
            self._sampling.stop()

    def remembered(self) -> Iterator[Value]:
        """Yield what was added up, and the XIDs."""
        yield from self._sampler.values()
        yield from self._around.xids.values(self.identity.uuid)

    def read(self) -> list[Value]:
        """Ask the GPU everything that it has. Raises Lost or NvmlFailure when it, or the driver, is gone."""
        with self._noting_loss(), self._around.nvml.using() as generation:
            session = self._session
            if session is None or session.generation != generation:
                raise Lost("not attached")
            session.probe(self.identity.driver_version)
            values = list(self._ask(session))
            self._sampler.take(session.sampling, session.pcie)
        self._tell(session.asker)
        if self._sampling is None and not self._around.pci.may_sleep(self.identity.pci_bus_id):
            self._sampling = Every(self._around.sample_seconds, self.sample, f"gpu-samples-{self.identity.gpu}")
        if self._closed and self._sampling is not None:  # closed while it was being read
            self._sampling.stop()
        return values

    def sample(self) -> None:
        """Add up what is new; quiet while the GPU sleeps or is gone: the next reading notices, and tells."""
        session = self._session
        if session is None or not session.probed or self.asleep:
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

    def _ask(self, session: _Session) -> Iterator[Value]:
        asker = session.asker
        usages = _usages(asker)
        yield from session.fixed
        yield from session.questions.ask()
        yield from _utilization(asker)
        yield from _fans(asker)
        yield from _throttled(session)
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
        if info is not None and info.total:
            yield Value(families.MEMORY_TOTAL, (), info.total)
            yield Value(families.MEMORY_USED, (), info.used)
            yield Value(families.MEMORY_FREE, (), info.free)
            yield Value(families.MEMORY_RESERVED, (), getattr(info, "reserved", None))
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
        value = nvidia_fields.ENERGY.read(asker)
        if value is not None:
            yield value
        self._sampler.wants_power = all(map(asker.lacks, nvidia_fields.ENERGY.ways))

    def _activity(self, session: _Session) -> Iterator[Value]:
        """Yield what performance monitoring says; PCIe traffic is added up from the driver's counters elsewhere."""
        monitor = session.gpm
        metrics = monitor.read() if monitor else {}
        for family, ratio in gpm.ratios(metrics, _GPM_RATIOS):
            yield Value(family, (), ratio)
        self._sampler.wants_pcie = monitor is None or monitor.moves is False
        if monitor is not None and monitor.moves:
            for metric, family in _GPM_TRAFFIC.items():
                yield Value(family, (), monitor.moved[metric])

    def _tell(self, asker: Asker) -> None:
        """Log once what the GPU does not have."""
        if not self._told:
            self._told = True
            without = ",".join(asker.lacking_names())
            log.info(
                "GPU found",
                extra={"fields": {"gpu": self.identity.gpu, "name": self.identity.name, "without": without}},
            )


def _usages(asker: Asker) -> list[Usage] | None:
    """Return what each process holds; None when the driver does not say. One process may be in several lists."""
    lists = [asker.call(function) for function in _PROCESS_LISTS]
    if all(processes is None for processes in lists):
        return None
    found: dict[tuple[int, int, int], int | None] = {}
    for info in (info for processes in lists for info in processes or ()):
        key = (info.pid, info.gpuInstanceId, info.computeInstanceId)
        sizes = [size for size in (found.get(key), info.usedGpuMemory) if size is not None]
        found[key] = max(sizes, default=None)
    return [
        Usage(pid, memory, None if instance == _NO_INSTANCE else instance)
        for (pid, instance, _), memory in found.items()
    ]


def _utilization(asker: Asker) -> Iterator[Value]:
    rates = asker.call("nvmlDeviceGetUtilizationRates")
    if rates is not None:
        for family, percent in ((families.UTILIZATION, rates.gpu), (families.MEMORY_UTILIZATION, rates.memory)):
            yield Value(family, (), percent / 100 if percent <= 100 else None)  # noqa: PLR2004 - percent


def _fans(asker: Asker) -> Iterator[Value]:
    """Yield each fan's speed, which may be above 1 (nvmlDeviceGetFanSpeed_v2); passive cards have none."""
    for fan in range(min(asker.call("nvmlDeviceGetNumFans") or 0, 16)):
        percent = asker.call("nvmlDeviceGetFanSpeed_v2", fan)
        if percent is not None and percent <= 200:  # noqa: PLR2004 - percent
            yield Value(families.FAN, (str(fan),), percent / 100)


def _throttled(session: _Session) -> Iterator[Value]:
    """Yield 0 or 1 for each reason that the GPU can give."""
    if session.throttle is None:
        return
    function, supported = session.throttle
    current = session.asker.call(function)
    if current is not None:
        for bit, reason in nvidia_fields.REASONS.items():
            if supported & bit:
                yield Value(families.THROTTLED, (reason,), float(bool(current & bit)))
