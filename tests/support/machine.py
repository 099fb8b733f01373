"""A stand-in machine for collectors: psutil's values and the kernel's files."""

from __future__ import annotations

import platform
import struct
from math import inf
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from prometheus_client import CollectorRegistry

from modelhost_exporter.collectors import (
    bonding,
    cgroup,
    clock,
    conntrack,
    cpu,
    disk,
    edac,
    engines,
    file_descriptors,
    filesystem,
    gpu,
    infiniband,
    load,
    mdadm,
    memory,
    netstat,
    network,
    nvme,
    operating_system,
    pressure,
    processes,
    rapl,
    sensors,
    sockstat,
    softnet,
    systemd,
    tcp,
    textfile,
)
from modelhost_exporter.engines.metrics import COLD_STARTS, COLD_TTFT, UNPROXIED, ModelState, ServerState, families
from modelhost_exporter.engines.polling.probes import ProbeMetrics
from modelhost_exporter.engines.snapshot import Engine, EngineHistogram, Latency, Model, ServerSnapshot
from modelhost_exporter.gpu import families as gpu_families
from modelhost_exporter.gpu.contract import Enumeration, Identity, Value
from modelhost_exporter.linux.disks import Disks
from modelhost_exporter.metrics.instruments import live_counter, live_histogram
from modelhost_exporter.metrics.prerendered import joined, written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

    from modelhost_exporter.collector import Collector
    from modelhost_exporter.metrics.families import Family


class CpuTimes(NamedTuple):
    """psutil's scputimes on Linux; guest time is counted in user and nice as well."""

    user: float = 100.0
    nice: float = 10.0
    system: float = 50.0
    idle: float = 1000.0
    iowait: float = 5.0
    irq: float = 1.0
    softirq: float = 2.0
    steal: float = 0.5
    guest: float = 30.0
    guest_nice: float = 4.0


class DiskCounts(NamedTuple):
    """psutil's sdiskio on Linux; times in milliseconds."""

    read_count: int = 7
    write_count: int = 9
    read_bytes: int = 7168
    write_bytes: int = 9216
    read_time: int = 1500
    write_time: int = 2500
    read_merged_count: int = 1
    write_merged_count: int = 2
    busy_time: int = 3500


class NicCounts(NamedTuple):
    """psutil's snetio."""

    bytes_sent: int = 1
    bytes_recv: int = 2
    packets_sent: int = 3
    packets_recv: int = 4
    errin: int = 5
    errout: int = 6
    dropin: int = 7
    dropout: int = 8


class NicState(NamedTuple):
    """psutil's snicstats, as far as it is read."""

    isup: bool = True
    speed: int = 1000


class Partition(NamedTuple):
    """psutil's sdiskpart."""

    device: str = "/dev/sda1"
    mountpoint: str = "/"
    fstype: str = "ext4"
    opts: str = "rw,relatime"


class Sensor(NamedTuple):
    """psutil's shwtemp and sfan, as far as they are read."""

    label: str
    current: float


_MEMORY = (
    *("Dirty", "Writeback", "AnonPages", "AnonHugePages", "Shmem", "Mapped", "Mlocked", "Unevictable", "Slab"),
    *("SReclaimable", "SUnreclaim", "KernelStack", "PageTables", "Percpu", "Committed_AS", "CommitLimit"),
    *("Hugepagesize", "HardwareCorrupted"),
)
_PORT = "sys/class/infiniband/mlx5_0/ports/1"
_PORT_COUNTERS = (
    *("port_rcv_data", "port_xmit_data", "port_rcv_packets", "port_xmit_packets", "port_rcv_errors"),
    *("port_rcv_remote_physical_errors", "port_xmit_discards", "port_xmit_wait", "link_downed", "link_error_recovery"),
    *("local_link_integrity_errors", "symbol_error", "excessive_buffer_overrun_errors"),
)
_HARDWARE_COUNTERS = (
    *("out_of_buffer", "out_of_sequence", "packet_seq_err", "local_ack_timeout_err", "rnr_nak_retry_err"),
    *("np_cnp_sent", "np_ecn_marked_roce_packets", "rp_cnp_handled", "roce_adp_retrans", "rx_icrc_encapsulated"),
)

FILES: Mapping[str, str] = {
    "proc/vmstat": "nr_free_pages 42\npgmajfault 11\npswpin 3\npswpout 5\noom_kill 2\n",
    "proc/stat": "cpu  1 2 3\nctxt 10\nbtime 1700000000\nprocesses 99\nprocs_running 4\nprocs_blocked 1\n",
    "proc/meminfo": "".join(f"{name}: {number} kB\n" for number, name in enumerate(_MEMORY, 1))
    + "".join(f"HugePages_{name}: {number}\n" for number, name in enumerate(("Total", "Free", "Rsvd", "Surp"), 101)),
    "proc/net/softnet_stat": "".join(
        f"{9 + cpu:08x} {cpu:08x} {2 * cpu:08x}" + 9 * " 00000000" + f" {cpu:08x}\n" for cpu in (0, 2)
    ),
    "sys/class/net/bond0/bonding/slaves": "eth0 eth1\n",
    "sys/class/net/eth0/bonding_slave/mii_status": "up\n",
    "sys/class/net/eth1/bonding_slave/mii_status": "going down\n",
    "proc/diskstats": (
        "   8       0 sda 7 0 14 1500 9 0 18 2500 0 3500 4500 0 0 0 0 0 0\n   8       1 sda1 1 0 2 3 4 0 5 6 0 7 8\n"
    ),
    "proc/pressure/cpu": (
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"
    ),
    "proc/pressure/memory": (
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=500000\n"
    ),
    "proc/pressure/io": (
        "some avg10=12.50 avg60=3.00 avg300=0.10 total=3000000\nfull avg10=1.00 avg60=0.00 avg300=0.00 total=250000\n"
    ),
    "proc/net/snmp": (
        "Ip: Forwarding DefaultTTL\nIp: 1 64\n"
        "Tcp: RtoMin MaxConn EstabResets CurrEstab InSegs OutSegs RetransSegs InErrs OutRsts\n"
        "Tcp: 200 -1 4 6 100 900 9 1 5\n"
        "Udp: InDatagrams NoPorts InErrors RcvbufErrors SndbufErrors\nUdp: 3 40 10 20 30\n"
    ),
    "proc/net/netstat": "TcpExt: ListenOverflows ListenDrops\nTcpExt: 2 3\nIpExt: InOctets\nIpExt: 9\n",
    "proc/net/snmp6": "Udp6NoPorts 4\nUdp6InErrors 1\nUdp6RcvbufErrors 2\nUdp6SndbufErrors 3\n",
    "proc/net/sockstat6": "TCP6: inuse 4\nUDP6: inuse 5\n",
    "proc/net/sockstat": "sockets: used 80\nTCP: inuse 10 orphan 0 tw 12 alloc 11 mem 50\nUDP: inuse 1 mem 2\n",
    "proc/sys/net/netfilter/nf_conntrack_count": "77\n",
    "proc/sys/net/netfilter/nf_conntrack_max": "262144\n",
    "proc/net/stat/nf_conntrack": (
        "entries  clashres found new invalid ignore delete delete_list insert insert_failed drop early_drop\n"
        "0000004d 00000000 00000000 00000000 0000000a 00000000 00000000 00000000 00000000 00000003 00000010 00000002\n"
        "0000004d 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000001 00000001 00000000\n"
    ),
    "proc/sys/fs/file-nr": "735\t0\t2466170\n",
    "proc/self/cgroup": "0::/\n",
    **{f"{_PORT}/counters/{name}": f"{number}\n" for number, name in enumerate(_PORT_COUNTERS, 1)},
    **{f"{_PORT}/hw_counters/{name}": f"{number}\n" for number, name in enumerate(_HARDWARE_COUNTERS, 101)},
    f"{_PORT}/state": "4: ACTIVE\n",
    f"{_PORT}/phys_state": "5: LinkUp\n",
    f"{_PORT}/rate": "100 Gb/sec (4X EDR)\n",
    "sys/class/infiniband/mlx5_0/board_id": "MT_0000000008\n",
    "sys/class/infiniband/mlx5_0/fw_ver": "16.35.2000\n",
    "sys/class/infiniband/mlx5_0/hca_type": "MT4119\n",
    "sys/devices/system/edac/mc/mc0/ce_count": "5\n",
    "sys/devices/system/edac/mc/mc0/ue_count": "2\n",
    "sys/devices/system/edac/mc/mc0/dimm3/dimm_label": "CPU0_DIMM_B1\n",
    "sys/devices/system/edac/mc/mc0/dimm3/dimm_ce_count": "4\n",
    "sys/devices/system/edac/mc/mc0/dimm3/dimm_ue_count": "1\n",
    "sys/devices/system/edac/mc/mc1/ce_count": "0\n",
    "sys/devices/system/edac/mc/mc1/ue_count": "0\n",
    **{
        f"sys/class/powercap/{zone}/{name}": f"{text}\n"
        for zone, of in {
            "intel-rapl:0": ("package-0", 1_500_000),
            "intel-rapl:0:0": ("core", 500_000),
            "intel-rapl:0:1": ("uncore", 125_000),
            "intel-rapl:1": ("package-1", 2_500_000),
            "intel-rapl:1:0": ("dram", 250_000),
            "intel-rapl:2": ("psys", 5_000_000),
        }.items()
        for name, text in zip(("name", "energy_uj", "max_energy_range_uj"), (*of, 262_143_328_850), strict=True)
    },
    "sys/class/nvme/nvme0/model": "Fast SSD                                \n",
    "sys/class/nvme/nvme0/serial": "S1                  \n",
    "sys/class/nvme/nvme0/firmware_rev": "1.0     \n",
    "sys/class/nvme/nvme0/state": "live\n",
    "sys/class/nvme/nvme0/hwmon3/temp1_input": "41850\n",
    "textfile/backup.prom": "backup_seconds 5\n",
    "sys/block/md127/md/array_state": "active\n",
    "sys/block/md127/md/sync_action": "recover\n",
    "sys/block/md127/md/sync_completed": "250 / 1000\n",
    "sys/block/md127/md/raid_disks": "2\n",
    "sys/block/md127/md/dev-sda1/state": "in_sync\n",
    "sys/block/md127/md/dev-sdb1/state": "faulty\n",
    "sys/block/md127/md/dev-sdc1/state": "spare\n",
    "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
    "sys/fs/cgroup/memory.max": "1073741824\n",
    "sys/fs/cgroup/memory.current": "536870912\n",
    "sys/fs/cgroup/cpu.max": "150000 100000\n",
    "sys/fs/cgroup/cpu.stat": "usage_usec 5000000\nnr_throttled 3\nthrottled_usec 2500000\n",
}


UNITS = """\
Id=vllm.service
NRestarts=4
LoadState=loaded
ActiveState=activating

LoadState=loaded
Id=data.mount
ActiveState=active

NRestarts=0
Id=odd.service
LoadState=not-found
ActiveState=inactive
"""


def health_log() -> bytes:
    """Return the health log of an NVMe drive that is worn out."""
    counters = (1, 2**64, 3, 4, 5, 6, 7, 8, 9, 10)
    head = struct.pack("<BHBBB", 0b1001, 273 + 42, 9, 10, 102)
    return (head.ljust(32, b"\0") + b"".join(number.to_bytes(16, "little") for number in counters)).ljust(512, b"\0")


def write(root: Path, files: Mapping[str, str]) -> Path:
    """Write files (relative path → text) below ``root``; return ``root``."""
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def told(answer: Any, **expected: bool) -> Callable[..., Any]:
    """Return a function that returns ``answer``, and fails when called with other arguments."""

    def function(**given: bool) -> Any:
        assert given == expected
        return answer

    return function


def psutil_double(**changes: Any) -> SimpleNamespace:
    """Return a stand-in for psutil on a full Linux machine; ``changes`` replace functions, None takes one away."""
    functions: dict[str, Any] = {
        "boot_time": lambda: 1.7e9,
        "cpu_count": lambda logical=True: 4 if logical else 2,
        "cpu_freq": told([SimpleNamespace(current=2400.0)] * 2, percpu=True),
        "cpu_stats": lambda: SimpleNamespace(ctx_switches=1000, interrupts=2000),
        "cpu_times": told([CpuTimes(), CpuTimes(user=200.0)], percpu=True),
        "disk_io_counters": told({"sda": DiskCounts(), "sda1": DiskCounts()}, perdisk=True, nowrap=False),
        "disk_partitions": told([Partition()], all=True),
        "getloadavg": lambda: (0.5, 1.5, 2.5),
        "net_if_stats": lambda: {"lo": NicState(speed=0), "eth0": NicState()},
        "net_io_counters": told({"lo": NicCounts(), "eth0": NicCounts()}, pernic=True, nowrap=False),
        "sensors_fans": lambda: {"board": [Sensor("cpu", 900)]},
        "sensors_temperatures": lambda: {"nvme": [Sensor("Composite", 40.5)]},
        "swap_memory": lambda: SimpleNamespace(total=800, used=300, free=500, sin=4096, sout=8192),
        "virtual_memory": lambda: SimpleNamespace(
            total=1000, available=600, used=400, free=100, cached=250, buffers=50, percent=40.0
        ),
    }
    return SimpleNamespace(
        **{name: function for name, function in (functions | changes).items() if function is not None}
    )


class EveryGpu:
    """A vendor with one GPU that has a value for every family; tests/gpu queries a stand-in driver for the same."""

    identity = Identity("0", "GPU-0", "nvidia")
    suspended = polling_paused = False

    def unavailable_reason(self) -> str:
        """Return '': the GPU is present."""
        return ""

    def enumerate(self) -> Enumeration:
        """Return the GPU."""
        return Enumeration([self])

    def driver_values(self) -> list[tuple[Family, float]]:
        """Return the one value of the driver itself."""
        return [(gpu_families.RESTART_REQUIRED, 0)]

    def read(self) -> list[Value]:
        """Return a value for each family of a single GPU."""
        own = {gpu_families.INFO, gpu_families.UP}
        device = [family for family in gpu_families.ALL if family.labels[:2] == ("gpu", "uuid") and family not in own]
        return [Value(family, family.labels[2:], 1) for family in device]

    memory_by_pid = None

    def accumulated(self) -> list[Value]:
        """Return nothing."""
        return []

    def close(self) -> None:
        """Do nothing."""


def every_family_of_engines() -> Iterator[Metric]:
    """Yield the families of a server that has a value for each, and those that are counted as events occur."""
    latency = EngineHistogram(((1.0, 1), (inf, 2)), 3.0)
    engine = Engine(
        *(1, 2, 3, 0.5, 4096),
        input_tokens={"hit": 5},
        output_tokens=6,
        prefill_seconds=7,
        decode_seconds=8,
        requests_finished={"stop": 9},
        preemptions=10,
        speculative_drafts=11,
        speculative_draft_tokens=12,
        speculative_accepted_tokens=13,
        latencies=dict.fromkeys(get_args(Latency), latency),
        requests_waiting_by_reason={"capacity": 2},
        input_tokens_recomputed=14,
        external_cache_lookup_tokens=15,
        external_cache_hit_tokens=16,
    )
    model = Model("m", loaded=True, context_length=4096, expires=1.8e9)
    state = ModelState(model, True, 1, 2, 3e9, 1e9, 2.5, {"exclusive": 100}, {"exclusive": 10})
    snapshot = ServerSnapshot("vllm", "1", (model,), engine)
    seen = ServerState("s", snapshot, engine, {"m": state}, 0.01, 1.8e9, {"timeout": 1})
    yield from joined(engines.FAMILIES, [written(families(seen)), written(UNPROXIED.by([(("s",), 0.5)]))])
    registry = CollectorRegistry()
    live_counter(COLD_STARTS, registry).labels("s", "m", "chat").inc()
    live_histogram(COLD_TTFT, registry).labels("s", "m", "chat").observe(1)
    ProbeMetrics(registry).record(("s", ""), "m", "ok", 1.0)
    yield from registry.collect()


def every_collector(root: Path) -> dict[str, Collector]:
    """Return every collector by its name, on a machine (its files below ``root``) that has a value for every family."""
    write(root, FILES)
    procfs, sysfs, source = root / "proc", root / "sys", psutil_double()
    return {
        "bonding": bonding.BondingCollector(sysfs),
        "cgroup": cgroup.CgroupCollector(procfs, sysfs),
        "clock": clock.ClockCollector(source, lambda: 1.8e9, lambda: clock.Discipline(0.001, 0.5, synchronized=True)),
        "conntrack": conntrack.ConntrackCollector(procfs),
        "cpu": cpu.CpuCollector(source),
        "disk": disk.DiskCollector(disk.DiskOptions().devices, Disks(procfs, sysfs)),
        "edac": edac.EdacCollector(sysfs),
        "file_descriptors": file_descriptors.FileDescriptorsCollector(procfs),
        "filesystem": filesystem.FilesystemCollector(
            filesystem.FilesystemOptions(), source=source, query=lambda _: filesystem.Space(100, 40, 50, 10, 5)
        ),
        "gpu": gpu.GpuCollector({"every": EveryGpu()}, gpu.GpuOptions()),
        "infiniband": infiniband.InfinibandCollector(sysfs, wait_seconds=5.0),
        "load": load.LoadCollector(source),
        "mdadm": mdadm.MdadmCollector(sysfs),
        "memory": memory.MemoryCollector(procfs, source),
        "engines": engines.EnginesCollector(every_family_of_engines),
        "netstat": netstat.NetstatCollector(procfs),
        "network": network.NetworkCollector(network.NetworkOptions().devices, source),
        "nvme": nvme.NvmeCollector(sysfs, root / "dev", lambda _: health_log(), wait_seconds=5.0),
        "operating_system": operating_system.OperatingSystemCollector(platform.uname),
        "pressure": pressure.PressureCollector(procfs),
        "processes": processes.ProcessesCollector(procfs),
        "rapl": rapl.RaplCollector(sysfs),
        "sensors": sensors.SensorsCollector(source),
        "sockstat": sockstat.SockstatCollector(procfs),
        "softnet": softnet.SoftnetCollector(procfs),
        "systemd": systemd.SystemdCollector(("vllm",), lambda _: UNITS),
        "tcp": tcp.TcpCollector(procfs),
        "textfile": textfile.TextfileCollector(root / "textfile"),
    }
