"""What the live feed reads of the simulated host besides the families: identity, folders of models, processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.collectors.cpu import NO_WORK
from modelhost_exporter.demo.specs import GIB
from modelhost_exporter.demo.system import CpuTimes
from modelhost_exporter.gpu.processes import program
from modelhost_exporter.linux.processes import ProcessUse
from modelhost_exporter.live.host_identity import iso
from modelhost_exporter.live.host_sources import HostSources
from modelhost_exporter.live.model_folders import ModelFolder

if TYPE_CHECKING:
    import platform
    from collections.abc import Callable, Iterator

    from modelhost_exporter.demo.specs import ServerSpec
    from modelhost_exporter.demo.world import SimulatedWorld
    from modelhost_exporter.live.message import HostIdentity

_DISTRIBUTION = "Ubuntu 24.04.3 LTS"
# name, user, share of the CPU time, memory in GiB of what runs besides the model servers; pid: 1 and up
_OTHERS = (
    ("systemd", "root", 0.002, 0.02),
    ("dockerd", "root", 0.012, 0.14),
    ("containerd", "root", 0.008, 0.09),
    ("prometheus", "prometheus", 0.03, 1.9),
    ("nginx", "www-data", 0.02, 0.05),
    ("postgres", "postgres", 0.02, 4.2),
    ("sshd", "root", 0.0005, 0.01),
)
_SERVERS_SHARE = 0.85
_MAIN_SHARE = 0.3
"""Share of a server's own process; its workers, one for each GPU, share the rest."""


def live_sources(world: SimulatedWorld, uname: platform.uname_result, now: Callable[[], float]) -> HostSources:
    """Return the sources of the simulated host; ``now`` is its clock, which the world may be a moment behind."""
    spec, booted = world.machine.spec, world.machine.booted
    folders = [ModelFolder(title, path) for title, path in spec.model_folders]

    def identity() -> HostIdentity:
        return {
            "name": uname.node,
            "system": uname.system,
            "release": _DISTRIBUTION,
            "kernel": uname.release,
            "cpuModel": spec.cpu_model,
            "bootTime": iso(booted),
        }

    return HostSources(identity, lambda: folders, SimulatedProcesses(world, now))


class SimulatedProcesses:
    """The processes of the simulated host: model servers with their workers, and some others."""

    def __init__(self, world: SimulatedWorld, now: Callable[[], float]) -> None:
        self._world = world
        self._now = now

    def read(self) -> Iterator[ProcessUse]:
        """Yield what every process uses: fixed shares of the CPU time with work."""
        busy, booted = self._busy_seconds(), self._world.machine.booted
        for number, (_, _, share, gib) in enumerate(_OTHERS, 1):
            yield ProcessUse(number, booted, share * busy, int(gib * GIB))
        every = sum(len(engine.spec.gpus) + 1 for engine in self._world.engines)
        for server in self._world.running_servers():
            seconds = busy * _SERVERS_SHARE * (len(server.gpus) + 1) / every
            yield ProcessUse(server.pid, booted, _MAIN_SHARE * seconds, server.ram_bytes // 2)
            workers = len(server.gpus) or 1
            for gpu in server.gpus:
                used = (1 - _MAIN_SHARE) * seconds / workers
                yield ProcessUse(server.pid + 10 + gpu, booted, used, server.ram_bytes // 2 // workers)

    def describe(self, pid: int) -> tuple[str, str]:
        """Return the program and the user of a process."""
        if pid <= len(_OTHERS):
            name, user, _, _ = _OTHERS[pid - 1]
            return name, user
        server = self._server(pid)
        return (program(server.command.split()), server.kind) if server else ("", "")

    def _server(self, pid: int) -> ServerSpec | None:
        servers = (engine.spec for engine in self._world.engines)
        return next((server for server in servers if server.pid <= pid < server.pid + 100), None)

    def _busy_seconds(self) -> float:
        """Return the CPU seconds with work so far; they grow between two steps of the world as well."""
        machine = self._world.machine
        counted = sum(
            seconds
            for times in machine.cpu_seconds
            for name, seconds in zip(CpuTimes._fields, times, strict=True)
            if name not in NO_WORK
        )
        return counted + machine.spec.cpus * machine.busy * max(0.0, self._now() - self._world.now)
