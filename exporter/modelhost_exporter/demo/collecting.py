"""The real collectors, on the simulated machine: each gets its doubles through its constructor."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelhost_exporter.collectors import (
    Paths,
    cgroup,
    clock,
    cpu,
    disk,
    file_descriptors,
    filesystem,
    gpu,
    load,
    memory,
    network,
    operating_system,
    pressure,
    processes,
    sensors,
    tcp,
)
from modelhost_exporter.demo.machine import MEMORY_BYTES, PAGE_BYTES
from modelhost_exporter.gpu.nvidia.device import DeviceDependencies
from modelhost_exporter.gpu.nvidia.driver import Nvidia
from modelhost_exporter.gpu.nvidia.nvml import Nvml
from modelhost_exporter.gpu.nvidia.xid import XidWatcher
from modelhost_exporter.gpu.process_owners import LocalServer, ProcessOwners
from modelhost_exporter.gpu.processes import ProcessNames
from modelhost_exporter.gpu.runtime_suspend import PciDevices

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from modelhost_exporter.collectors import Collector, Options
    from modelhost_exporter.demo.driver import SimulatedDriver
    from modelhost_exporter.demo.system import SimulatedSystem
    from modelhost_exporter.demo.world import SimulatedWorld

_UNAME = platform.uname_result("Linux", "demo", "6.8.0-demo", "#1 SMP PREEMPT_DYNAMIC", "x86_64")


@dataclass(frozen=True)
class Doubles:
    """What takes the place of the machine."""

    world: SimulatedWorld
    system: SimulatedSystem
    driver: SimulatedDriver
    paths: Paths
    now: Callable[[], float]
    """The machine's clock, which the world may be a moment behind."""
    xid_wait_ms: int
    sample_seconds: float
    """How often the driver's samples are read between scrapes."""

    def create(self, name: str, options: Options, _paths: Paths) -> Collector:
        """Build a collector by its name, with its own options."""
        return _MAKERS[name](options, self)


def _clock(_options: Any, doubles: Doubles) -> Collector:
    machine = doubles.world.machine
    return clock.ClockCollector(
        doubles.system,
        doubles.now,
        lambda: clock.Discipline(machine.offset, machine.clock_error, machine.synchronized),
    )


def _gpu(options: gpu.GpuOptions, doubles: Doubles) -> Collector:
    world, nvml = doubles.world, Nvml(lambda: doubles.driver)
    servers = [LocalServer(engine.spec.name, port=engine.spec.port) for engine in world.engines.values()]
    owners = ProcessOwners(servers, doubles.paths.procfs, doubles.system, world.clock)
    dependencies = DeviceDependencies(
        nvml,
        XidWatcher(nvml, world.clock, doubles.xid_wait_ms),
        PciDevices(doubles.paths.sysfs, doubles.paths.procfs),
        ProcessNames(owners, doubles.system),
        world.clock,
        world.clock,
        lambda: MEMORY_BYTES,
        doubles.sample_seconds,
    )
    return gpu.GpuCollector({"nvidia": Nvidia(dependencies)}, options)


_MAKERS: Mapping[str, Callable[[Any, Doubles], Collector]] = {
    "cgroup": lambda _, doubles: cgroup.CgroupCollector(doubles.paths.procfs, doubles.paths.sysfs),
    "clock": _clock,
    "cpu": lambda _, doubles: cpu.CpuCollector(doubles.system),
    "disk": lambda options, doubles: disk.DiskCollector(options.devices, doubles.system),
    "file_descriptors": lambda _, doubles: file_descriptors.FileDescriptorsCollector(doubles.paths.procfs),
    "filesystem": lambda options, doubles: filesystem.FilesystemCollector(
        options, source=doubles.system, ask=doubles.system.space, now=doubles.now
    ),
    "gpu": _gpu,
    "load": lambda _, doubles: load.LoadCollector(doubles.system),
    "memory": lambda _, doubles: memory.MemoryCollector(doubles.paths.procfs, doubles.system, PAGE_BYTES),
    "network": lambda options, doubles: network.NetworkCollector(options.devices, doubles.system),
    "operating_system": lambda *_: operating_system.OperatingSystemCollector(lambda: _UNAME),
    "pressure": lambda _, doubles: pressure.PressureCollector(doubles.paths.procfs),
    "processes": lambda _, doubles: processes.ProcessesCollector(doubles.paths.procfs),
    "sensors": lambda _, doubles: sensors.SensorsCollector(doubles.system),
    "tcp": lambda _, doubles: tcp.TcpCollector(doubles.paths.procfs),
}
