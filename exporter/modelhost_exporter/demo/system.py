"""A stand-in for psutil on the simulated host."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

from modelhost_exporter.collectors.filesystem import Space
from modelhost_exporter.demo.hardware import processors
from modelhost_exporter.demo.machine import PAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from modelhost_exporter.demo.machine import SimulatedMachine
    from modelhost_exporter.demo.specs import ServerSpec
    from modelhost_exporter.demo.world import SimulatedWorld

_MIN_MHZ, _MAX_MHZ = 2_000.0, 3_800.0


class CpuTimes(NamedTuple):
    """psutil's scputimes on Linux."""

    user: float
    nice: float
    system: float
    idle: float
    iowait: float
    irq: float
    softirq: float
    steal: float
    guest: float
    guest_nice: float


class SimulatedSystem:
    """The functions of psutil that collectors call."""

    Error = psutil.Error
    CONN_LISTEN = psutil.CONN_LISTEN

    def __init__(self, world: SimulatedWorld) -> None:
        self._world = world

    @property
    def _machine(self) -> SimulatedMachine:
        return self._world.machine

    def boot_time(self) -> float:
        """Return the time of boot, in seconds since 1970."""
        return self._machine.booted

    def cpu_times(self, *, percpu: bool) -> list[CpuTimes]:
        """Return the times of each CPU."""
        assert percpu  # noqa: S101 - the sum is never requested
        return [CpuTimes(*times) for times in self._machine.cpu_seconds]

    def cpu_count(self, *, logical: bool = True) -> int:
        """Return the CPUs, or the cores."""
        cpus = self._machine.spec.cpus
        return cpus if logical else cpus // 2

    def cpu_freq(self, *, percpu: bool) -> list[Any]:
        """Return the clock of each CPU in MHz."""
        current = _MIN_MHZ + (_MAX_MHZ - _MIN_MHZ) * min(1.0, 0.3 + self._machine.busy)
        return [SimpleNamespace(current=current)] * (self._machine.spec.cpus if percpu else 1)

    def cpu_stats(self) -> Any:
        """Return the kernel's event counters."""
        return SimpleNamespace(ctx_switches=int(self._machine.switches), interrupts=int(self._machine.interrupts))

    def getloadavg(self) -> tuple[float, ...]:
        """Return the load averages."""
        return tuple(self._machine.loads)

    def virtual_memory(self) -> Any:
        """Return memory in bytes."""
        used, total = int(self._machine.used), self._machine.spec.memory_bytes
        available = total - used
        cached, buffers = available * 6 // 10, available // 100
        return SimpleNamespace(
            total=total,
            available=available,
            used=used,
            free=available - cached - buffers,
            cached=cached,
            buffers=buffers,
        )

    def swap_memory(self) -> Any:
        """Return swap in bytes."""
        used, total = int(self._machine.swapped), self._machine.spec.swap_bytes
        pages_in, pages_out = int(self._machine.pages_in), int(self._machine.pages_out)
        return SimpleNamespace(
            total=total, used=used, free=total - used, sin=pages_in * PAGE_BYTES, sout=pages_out * PAGE_BYTES
        )

    def disk_io_counters(self, *, perdisk: bool, nowrap: bool) -> dict[str, Any]:
        """Return each disk's counters, times in milliseconds."""
        del perdisk, nowrap
        return {
            name: SimpleNamespace(
                read_count=int(disk.reads),
                write_count=int(disk.writes),
                read_bytes=int(disk.read_bytes),
                write_bytes=int(disk.written_bytes),
                read_time=int(disk.read_seconds * 1000),
                write_time=int(disk.write_seconds * 1000),
                busy_time=int(disk.busy_seconds * 1000),
                weighted_time=round(disk.weighted_seconds * 1000),
            )
            for name, disk in self._machine.disks.items()
        }

    def disk_partitions(self, *, all: bool) -> list[Any]:  # noqa: A002 - psutil's name
        """Return the mounts."""
        del all
        return [
            SimpleNamespace(
                device=mount.device,
                mountpoint=mount.mountpoint,
                fstype=mount.fstype,
                opts="ro,relatime" if mount.readonly else "rw,relatime",
            )
            for mount in self._machine.mounts
        ]

    def space(self, path: str) -> Space:
        """Return a file system's space and inodes (statvfs)."""
        mount = next(mount for mount in self._machine.mounts if mount.mountpoint == path)
        free = mount.size - int(mount.used)
        inodes = mount.size // 16_384
        return Space(mount.size, max(0, free - mount.size // 200), free, inodes, int(inodes * (1 - mount.files_used)))

    def net_io_counters(self, *, pernic: bool, nowrap: bool) -> dict[str, Any]:
        """Return each interface's counters."""
        del pernic, nowrap
        return {
            name: SimpleNamespace(
                bytes_recv=int(nic.received),
                bytes_sent=int(nic.sent),
                packets_recv=int(nic.packets_in),
                packets_sent=int(nic.packets_out),
                errin=int(nic.errors_in),
                errout=int(nic.errors_out),
                dropin=int(nic.dropped_in),
                dropout=int(nic.dropped_out),
            )
            for name, nic in self._machine.nics.items()
        }

    def net_if_stats(self) -> dict[str, Any]:
        """Return each interface's state."""
        megabits = self._machine.spec.interface_megabits
        return {name: SimpleNamespace(isup=True, speed=megabits if name != "lo" else 0) for name in self._machine.nics}

    def sensors_temperatures(self) -> dict[str, list[Any]]:
        """Return the temperatures; OSError while the sensors fail."""
        self._check_sensors()
        machine = self._machine
        packages = [
            SimpleNamespace(label=f"Package id {n}", current=machine.temperature(n)) for n in processors(machine)
        ]
        drives = [SimpleNamespace(label="Composite", current=36.0 + 9 * (n == 0)) for n in (0, 1)]
        return {"coretemp": packages, "nvme": drives, "inlet": [SimpleNamespace(label="", current=machine.inlet)]}

    def sensors_fans(self) -> dict[str, list[Any]]:
        """Return the speeds of the fans; OSError while the sensors fail."""
        self._check_sensors()
        if not self._machine.spec.is_server:
            return {"nct6798": [SimpleNamespace(label="CPU", current=round(700 + 1100 * self._machine.busy))]}
        return {
            "bmc": [SimpleNamespace(label=f"Fan {n}", current=round(self._machine.fans + 40 * n)) for n in range(1, 7)]
        }

    def _check_sensors(self) -> None:
        if self._world.situation.has("collector_failing", "sensors"):
            raise OSError(5, "Input/output error")

    def process_iter(self) -> Iterator[SimulatedProcess]:
        """Yield the processes that listen on a port."""
        return (SimulatedProcess(self._world, server) for server in self._world.running_servers())

    def Process(self, pid: int) -> SimulatedProcess:  # noqa: N802 - psutil's name
        """Return a model server's process or one of its workers."""
        for server in self._world.running_servers():
            if server.pid <= pid < server.pid + 100:
                return SimulatedProcess(self._world, server, pid)
        raise psutil.NoSuchProcess(pid)


class SimulatedProcess:
    """A model server's process, or its worker for one GPU."""

    def __init__(self, world: SimulatedWorld, server: ServerSpec, pid: int | None = None) -> None:
        self._world = world
        self._server = server
        self.pid = server.pid if pid is None else pid

    def create_time(self) -> float:
        """Return the time of its start, in seconds since 1970."""
        return self._world.machine.booted

    def cmdline(self) -> list[str]:
        """Return its command line."""
        return self._server.command.split()

    def name(self) -> str:
        """Return the name of its program."""
        return self._server.kind

    def parent(self) -> SimulatedProcess | None:
        """Return the process that started a worker."""
        return None if self.pid == self._server.pid else SimulatedProcess(self._world, self._server)

    def children(self, *, recursive: bool) -> list[SimulatedProcess]:
        """Return the workers, one for each GPU."""
        del recursive
        return [SimulatedProcess(self._world, self._server, self._server.pid + 10 + gpu) for gpu in self._server.gpus]

    def memory_info(self) -> Any:
        """Return its memory: half of the server's for itself, the rest for its workers."""
        share = 2 if self.pid == self._server.pid else 2 * len(self._server.gpus)
        return SimpleNamespace(rss=self._server.ram_bytes // share)

    def net_connections(self, kind: str) -> Sequence[Any]:
        """Return the port that it listens on."""
        del kind
        listens = self.pid == self._server.pid
        address = SimpleNamespace(port=self._server.port)
        return [SimpleNamespace(status=psutil.CONN_LISTEN, laddr=address)] if listens else []
