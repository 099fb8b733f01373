"""The sources that the simulated host offers to collectors."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from modelhost_exporter import collectors
from modelhost_exporter.demo.machine import PAGE_BYTES
from modelhost_exporter.gpu.nvidia.device import DeviceDependencies
from modelhost_exporter.gpu.nvidia.nvml import Nvml
from modelhost_exporter.gpu.nvidia.source import NvidiaSource
from modelhost_exporter.gpu.nvidia.xid import XidMonitor
from modelhost_exporter.gpu.process_owners import LocalServer, ProcessOwners
from modelhost_exporter.gpu.processes import ProcessNames
from modelhost_exporter.gpu.runtime_suspend import PciDevices

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from modelhost_exporter.collector import Collector, CollectorContext, CollectorOptions, Paths
    from modelhost_exporter.demo.driver import SimulatedDriver
    from modelhost_exporter.demo.system import SimulatedSystem
    from modelhost_exporter.demo.world import SimulatedWorld
    from modelhost_exporter.gpu.contract import GpuSource


@dataclass(frozen=True)
class SimulatedSources:
    """The SimulatedHost of ``--demo``."""

    world: SimulatedWorld
    psutil: SimulatedSystem
    driver: SimulatedDriver
    paths: Paths
    now: Callable[[], float]
    """The machine's clock; the world may be a moment behind it."""
    xid_wait_ms: int
    sample_seconds: float
    """Interval at which the driver's samples are read between scrapes."""
    page_bytes: int = PAGE_BYTES

    def create(self, name: str, options: CollectorOptions, context: CollectorContext) -> Collector:
        """Build a collector by its name, with these sources."""
        return collectors.create(name, options, replace(context, paths=self.paths, simulated=self))

    def clock_discipline(self) -> tuple[float, float, bool]:
        """Return the clock's offset and largest error in seconds, and whether it is synchronised."""
        machine = self.world.machine
        return machine.offset, machine.clock_error, machine.synchronized

    def uname(self) -> platform.uname_result:
        """Return the names of the operating system."""
        name = self.world.machine.spec.name
        return platform.uname_result("Linux", name, "6.8.0-demo", "#1 SMP PREEMPT_DYNAMIC", "x86_64")

    def gpu_sources(self) -> Mapping[str, GpuSource]:
        """Return NVIDIA's driver with the simulated library below it."""
        world, nvml = self.world, Nvml(lambda: self.driver)
        servers = [LocalServer(engine.spec.name, port=engine.spec.port) for engine in world.engines]
        owners = ProcessOwners(servers, self.psutil, world.clock)
        dependencies = DeviceDependencies(
            nvml,
            XidMonitor(nvml, world.clock, self.xid_wait_ms),
            PciDevices(self.paths.sysfs, self.paths.procfs),
            ProcessNames(owners, self.psutil),
            world.clock,
            world.clock,
            lambda: world.machine.spec.memory_bytes,
            self.sample_seconds,
        )
        return {"nvidia": NvidiaSource(dependencies)}
