"""The simulated host: CPUs, memory, disks and network under the load of its model servers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelhost_exporter.demo.specs import GIB

if TYPE_CHECKING:
    import random

    from modelhost_exporter.demo.incidents import Situation
    from modelhost_exporter.demo.specs import HostSpec

PAGE_BYTES = 4096
_CONNECTION_BYTES = 64 * 2**20
_SECTOR_SECONDS = 0.00008
_PACKET_BYTES = 1100
_MAX_STEP_SECONDS = 60.0


@dataclass
class SimulatedLoad:
    """The load of the model servers in one step of a second."""

    tokens: float = 0.0
    requests: int = 0
    loading_bytes: float = 0.0
    resident_bytes: int = 0
    connections: int = 0
    gpu_watts: float = 0.0


@dataclass
class SimulatedDisk:
    """A disk's counters since boot."""

    read_bytes: float = 0.0
    written_bytes: float = 0.0
    reads: float = 0.0
    writes: float = 0.0
    read_seconds: float = 0.0
    write_seconds: float = 0.0
    busy_seconds: float = 0.0
    weighted_seconds: float = 0.0

    def work(self, seconds: float, read: float, written: float, *, queue: float) -> None:
        """Count transferred bytes, with a mean queue of ``queue`` waiting requests."""
        reads, writes = read / 131_072, written / 65_536
        self.read_bytes += read
        self.written_bytes += written
        self.reads += reads
        self.writes += writes
        self.read_seconds += reads * _SECTOR_SECONDS * (1 + queue)
        self.write_seconds += writes * _SECTOR_SECONDS * (1 + queue)
        busy = min(0.995 if queue else 0.7, (reads + writes) * _SECTOR_SECONDS / seconds + (0.97 if queue else 0))
        self.busy_seconds += busy * seconds
        self.weighted_seconds += busy * (1 + queue) * seconds


@dataclass
class SimulatedInterface:
    """A network interface's counters since boot."""

    received: float = 0.0
    sent: float = 0.0
    packets_in: float = 0.0
    packets_out: float = 0.0
    errors_in: float = 0.0
    errors_out: float = 0.0
    dropped_in: float = 0.0
    dropped_out: float = 0.0

    def work(self, received: float, sent: float, bad: float) -> None:
        """Count transferred bytes, with a share of bad packets."""
        packets_in, packets_out = received / _PACKET_BYTES, sent / _PACKET_BYTES
        self.received += received
        self.sent += sent
        self.packets_in += packets_in
        self.packets_out += packets_out
        self.errors_in += packets_in * bad
        self.errors_out += packets_out * bad / 2
        self.dropped_in += packets_in * (bad / 2 + 1e-6)
        self.dropped_out += packets_out * bad / 8


@dataclass
class SimulatedMount:
    """A mounted file system."""

    device: str
    mountpoint: str
    fstype: str
    size: int
    used: float
    files_used: float = 0.02
    """Share of its inodes that is in use."""
    readonly: bool = False


class SimulatedMachine:
    """The current state of the host, which ``go_to`` advances."""

    def __init__(self, spec: HostSpec, at: float, rng: random.Random) -> None:
        self.spec = spec
        self._at = at
        self._rng = rng
        self.booted = at - spec.uptime_seconds
        self._weights = [rng.uniform(0.5, 1.5) for _ in range(spec.cpus)]
        self.cpu_seconds = [self._since_boot(weight) for weight in self._weights]
        self.busy = 0.05
        self.loads = [4.0, 4.0, 4.0]
        self.switches, self.interrupts = 6e10, 4e10
        self.used = float(spec.base_bytes)
        self.swapped, self.pages_in, self.pages_out = 0.2 * GIB, 9e5, 2e6
        self.major_faults, self.oom_kills = 41_000.0, 0
        self.pressure = {(r, k): rng.uniform(100, 900) for r in ("cpu", "memory", "io") for k in ("some", "full")}
        self.disks = {
            "nvme0n1": SimulatedDisk(2e11, 9e11, 3e6, 9e6, 300, 900, 800, 1200),
            "nvme1n1": SimulatedDisk(8e12, 3e12),
        }
        self.nics = {
            "lo": SimulatedInterface(4e11, 4e11, 3e8, 3e8),
            **{name: SimulatedInterface() for name in spec.interface_names},
        }
        self.nics[spec.interface_names[0]] = SimulatedInterface(3e12, 2e12, 3e9, 2e9)
        self.mounts = tuple(
            SimulatedMount(mount.device, mount.mountpoint, mount.fstype, mount.size, mount.used)
            for mount in spec.mounts
        )
        self._data_before_filling = 0.0
        self.connections, self.time_wait = 40, 12
        self.descriptors = 9_000
        self.blocked = 0
        self.throttled_seconds = 0.4
        self.offset, self.clock_error, self.synchronized = 0.0002, 0.03, True
        self.fabric_bytes = 4e14
        self.cpu_joules = 1e5
        self.inlet = 24.0
        self.fans = 6_200.0

    def reset_counters(self) -> None:
        """Set all counters to zero, as after a boot at this moment."""
        self.booted = self._at
        self.cpu_seconds = [[0.0] * len(times) for times in self.cpu_seconds]
        self.switches = self.interrupts = self.pages_in = self.pages_out = self.major_faults = 0.0
        self.throttled_seconds = 0.0
        self.oom_kills = 0
        self.pressure = dict.fromkeys(self.pressure, 0.0)
        self.disks = {name: SimulatedDisk() for name in self.disks}
        self.nics = {name: SimulatedInterface() for name in self.nics}
        self.fabric_bytes = self.cpu_joules = 0.0

    def go_to(self, at: float, load: SimulatedLoad, situation: Situation) -> None:
        """Advance to a time; ``load`` is the model servers' load in between."""
        seconds = min(at - self._at, _MAX_STEP_SECONDS)
        self._at = at
        if seconds <= 0:
            return
        self._use_cpus(seconds, load, situation)
        self._use_memory(seconds, load, situation)
        self._use_disks(seconds, load, situation)
        self._use_network(seconds, load, situation)
        self._keep_time(seconds, situation)
        watts = load.gpu_watts
        self.inlet = 23.0 + watts / 1500
        self.fans += (4_500 + watts * 1.1 - self.fans) * min(1.0, seconds / 20)
        self.throttled_seconds += 0.002 * seconds * self._rng.random()

    def temperature(self, package: int) -> float:
        """Return the temperature of a processor."""
        return 38.0 + 42 * self.busy + 1.5 * package + 0.3 * math.sin(self._at / 40 + package)

    def _since_boot(self, weight: float) -> list[float]:
        busy = 0.06 * weight
        shares = (0.7 * busy, 0.0005, 0.25 * busy, 1 - busy, 0.0008, 0, 0.05 * busy, 0, 0, 0)
        return [share * self.spec.uptime_seconds for share in shares]

    def _use_cpus(self, seconds: float, load: SimulatedLoad, situation: Situation) -> None:
        spec = self.spec
        busy = spec.busy_share * self._rng.uniform(0.8, 1.2)
        busy += spec.busy_per_token * load.tokens + spec.busy_per_request * load.requests
        busy = _waves(self._at, 0.94, 0.05) if situation.has("cpu_busy") else min(busy, 0.8)
        waiting = 0.06 if situation.has("disk_busy") else 0.001
        self.busy += (busy - self.busy) * min(1.0, seconds / 3)
        for weight, times in zip(self._weights, self.cpu_seconds, strict=True):
            own = min(0.985 - waiting, self.busy * (weight if self.busy < 0.5 else 1.0))  # noqa: PLR2004 - all are busy
            shares = (0.74 * own, 0.004 * own, 0.2 * own, 1 - own - waiting, waiting, 0, 0.056 * own, 0, 0, 0)
            for index, share in enumerate(shares):
                times[index] += share * seconds
        runnable = spec.cpus * ((2.6 if situation.has("cpu_busy") else self.busy) + waiting)
        for index, minutes in enumerate((1, 5, 15)):
            self.loads[index] += (runnable - self.loads[index]) * (1 - math.exp(-seconds / 60 / minutes))
        self.blocked = round(spec.cpus * waiting)
        idle, more = (240, 460) if self.spec.is_server else (30, 140)
        self.cpu_joules += (idle + more * self.busy) * seconds
        self.switches += seconds * (60_000 + 8 * load.tokens)
        self.interrupts += seconds * (42_000 + 5 * load.tokens)
        self._press("cpu", seconds, 0.6 if situation.has("cpu_busy") else 0.01 * self.busy, 0.0)

    def _use_memory(self, seconds: float, load: SimulatedLoad, situation: Situation) -> None:
        tides = 0.12 * math.sin(self._at / 1700) + 0.05 * math.sin(self._at / 310)
        wanted = self.spec.base_bytes * (1 + tides) + load.resident_bytes + load.connections * _CONNECTION_BYTES
        part = situation.progress("memory_pressure")
        stalled = 0.0
        if part is not None:
            total = self.spec.memory_bytes
            wanted = total * min(_waves(self._at, 0.965, 0.02), 0.55 + 4 * part)
            stalled = 0.22 if self.used > 0.9 * total else 0.01
        self.used += (wanted - self.used) * min(1.0, seconds / 15)
        pages = seconds * 9_000 * stalled * (0.5 + self._rng.random())
        self.pages_in += pages * 0.6
        self.pages_out += pages
        self.swapped = (
            min(0.9 * self.spec.swap_bytes, self.swapped + pages * 0.4 * PAGE_BYTES)
            if stalled
            else self.swapped * 0.999
        )
        self.major_faults += seconds * (0.6 * self._rng.random() + 5_000 * stalled)
        self.oom_kills += sum(incident.kind == "memory_pressure" for incident in situation.ended)
        self._press("memory", seconds, 1.6 * stalled, stalled)

    def _use_disks(self, seconds: float, load: SimulatedLoad, situation: Situation) -> None:
        root, data = self.disks["nvme0n1"], self.disks["nvme1n1"]
        saturated = situation.has("disk_busy", "nvme0n1")
        queue = 24.0 * (0.8 + 0.4 * self._rng.random()) if saturated else 0.0
        root.work(seconds, 8e5 * seconds, (6e5 + 4e8 * saturated) * seconds, queue=queue)
        filling = situation.progress("disk_filling", "/data")
        data.work(seconds, load.loading_bytes + 2e6 * seconds, (2e6 if filling is None else 1.5e9) * seconds, queue=0.0)
        loading = 0.001 + load.loading_bytes / seconds / 2e10
        self._press("io", seconds, 0.5 if saturated else loading, 0.3 if saturated else loading / 4)
        disk = self.mounts[1]
        if filling is None:
            disk.used = self._data_before_filling or disk.used + 2_000 * seconds
            self._data_before_filling = 0.0
        else:
            self._data_before_filling = self._data_before_filling or disk.used
            room = 0.985 * disk.size - self._data_before_filling
            disk.used = self._data_before_filling + room * min(1.0, 2.8 * filling)
        for mount in self.mounts:
            mount.readonly = situation.has("disk_readonly", mount.mountpoint)
        root_disk = self.mounts[0]
        root_disk.used += 3_000 * seconds
        files = situation.progress("files_filling", "/")
        root_disk.files_used = 0.02 if files is None else min(0.98, 0.5 + 2 * files)

    def _use_network(self, seconds: float, load: SimulatedLoad, situation: Situation) -> None:
        noise = self._rng.uniform(0.8, 1.2)
        streamed, received = 220.0 * load.tokens * noise, 9_000.0 * load.requests * noise
        for name, share in zip(self.spec.interface_names, (1.0, 0.4), strict=False):
            bad = 0.03 if situation.has("network_errors", name) else 0.0
            base = self.spec.base_traffic_bytes * share * seconds * self._rng.uniform(0.7, 1.3)
            self.nics[name].work(base + received * share * seconds, base + streamed * share * seconds, bad)
        self.nics["lo"].work(streamed * seconds, streamed * seconds, 0.0)
        self.fabric_bytes += 1.5e6 * load.tokens * noise
        self.connections = 38 + load.connections + round(4 * noise)
        self.time_wait = 8 + 6 * load.requests
        self.descriptors = 8_900 + 3 * load.connections + round(30 * noise)

    def _keep_time(self, seconds: float, situation: Situation) -> None:
        self.synchronized = not situation.has("clock_unsynchronised")
        if self.synchronized:
            self.offset = 0.0003 * math.sin(self._at / 300)
            self.clock_error = 0.03 + 0.01 * self._rng.random()
        else:
            self.offset += 0.0005 * seconds
            self.clock_error = min(16.0, self.clock_error + 0.1 * seconds)

    def _press(self, resource: str, seconds: float, some: float, full: float) -> None:
        self.pressure[resource, "some"] += some * seconds
        self.pressure[resource, "full"] += full * seconds


def _waves(at: float, mean: float, swing: float) -> float:
    """Return a share that varies around its mean within a minute and within several."""
    return mean + swing * (0.6 * math.sin(at / 31) + 0.4 * math.sin(at / 7.3))
