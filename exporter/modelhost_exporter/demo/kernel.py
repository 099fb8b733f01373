"""The kernel's files of the simulated host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.demo.hardware import hardware_files

if TYPE_CHECKING:
    from pathlib import Path

    from modelhost_exporter.demo.machine import SimulatedMachine

_MAX_FILES = 2**20  # common on servers; recent kernels have no practical limit
_CONTAINER_BYTES = 2 * 2**30
_ARRAY = {
    "array_state": "clean",
    "sync_action": "check",
    "sync_completed": "703128576 / 1757821440",
    "raid_disks": "2",
    "dev-nvme2n1/state": "in_sync",
    "dev-nvme3n1/state": "in_sync",
}


class KernelFiles:
    """The files of /proc and /sys that collectors read, below a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._written: dict[str, str] = {}

    def write(self, machine: SimulatedMachine) -> None:
        """Write changed files in place, never shorter than before, so that a reader never sees half a file.

        To empty a file first takes a disk several milliseconds.
        """
        for name, text in _files(machine).items():
            before = self._written.get(name, "")
            after = self._written[name] = _padded(text, len(before))
            if after != before:
                path = self._root / name
                if not before:
                    path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("r+" if before else "w", encoding="ascii") as file:
                    file.write(after)


def _padded(text: str, length: int) -> str:
    """Return a text with spaces at the end of its last line, for no reader expects a further line."""
    return f"{text[:-1].ljust(length - 1)}\n" if text.endswith("\n") else text.ljust(length)


def _files(machine: SimulatedMachine) -> dict[str, str]:
    cpus = machine.spec.cpus
    return {
        "proc/vmstat": (
            f"pgmajfault {machine.major_faults:.0f}\npswpin {machine.pages_in:.0f}\n"
            f"pswpout {machine.pages_out:.0f}\noom_kill {machine.oom_kills}\n"
        ),
        "proc/meminfo": _memory(machine),
        "proc/stat": f"procs_running {max(1, round(machine.busy * cpus))}\nprocs_blocked {machine.blocked}\n",
        **{f"proc/pressure/{resource}": _pressure(machine, resource) for resource in ("cpu", "memory", "io")},
        **_network(machine),
        **hardware_files(machine),
        **(_server_files(machine) if machine.spec.is_server else {}),
        "proc/sys/net/netfilter/nf_conntrack_count": f"{machine.connections + machine.time_wait}\n",
        "proc/sys/net/netfilter/nf_conntrack_max": "262144\n",
        "proc/net/stat/nf_conntrack": "entries invalid insert_failed drop early_drop\n4d 0 0 0 0\n",
        "proc/sys/fs/file-nr": f"{machine.descriptors}\t0\t{_MAX_FILES}\n",
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
        "sys/fs/cgroup/memory.max": f"{_CONTAINER_BYTES}\n",
        "sys/fs/cgroup/memory.current": f"{90 * 2**20}\n",
        "sys/fs/cgroup/cpu.max": "200000 100000\n",
        "sys/fs/cgroup/cpu.stat": f"throttled_usec {machine.throttled_seconds * 1e6:.0f}\n",
    }


def _server_files(machine: SimulatedMachine) -> dict[str, str]:
    """Return the files of a RAID and of bonded interfaces."""
    names = machine.spec.interface_names
    return {
        **{f"sys/block/md0/md/{name}": f"{text}\n" for name, text in _ARRAY.items()},
        "sys/class/net/bond0/bonding/slaves": f"{' '.join(names)}\n",
        **{f"sys/class/net/{name}/bonding_slave/mii_status": "up\n" for name in names},
    }


def _memory(machine: SimulatedMachine) -> str:
    """Return meminfo; the memory of programs is mostly that of the weights of models."""
    used = int(machine.used) // 1024
    sizes = {
        "Dirty": 2_000 + used // 50_000,
        "Writeback": used // 500_000,
        "AnonPages": used * 7 // 10,
        "AnonHugePages": used // 2,
        "Shmem": 900_000,
        "Mapped": used // 6,
        "Mlocked": 4_000_000,
        "Unevictable": 4_100_000,
        "Slab": 7_400_000,
        "SReclaimable": 5_000_000,
        "SUnreclaim": 2_400_000,
        "KernelStack": 62_000,
        "PageTables": used // 400,
        "Percpu": 190_000,
        "Committed_AS": used * 13 // 10,
        "CommitLimit": (machine.spec.memory_bytes // 2 + machine.spec.swap_bytes) // 1024,
        "Hugepagesize": 2_048,
        "HardwareCorrupted": 0,
    }
    pages = {f"HugePages_{name}": 0 for name in ("Total", "Free", "Rsvd", "Surp")}
    return "".join(f"{name}: {size} kB\n" for name, size in sizes.items()) + "".join(
        f"{name}: {number}\n" for name, number in pages.items()
    )


def _network(machine: SimulatedMachine) -> dict[str, str]:
    cpus = machine.spec.cpus
    sent, connections = int(machine.nics[machine.spec.interface_names[0]].packets_out), machine.connections
    return {
        "proc/net/snmp": (
            "Tcp: EstabResets CurrEstab OutSegs RetransSegs InErrs OutRsts\n"
            f"Tcp: {sent // 400_000} {connections} {sent} {sent // 8_000} 0 {sent // 300_000}\n"
            f"Udp: NoPorts InErrors RcvbufErrors SndbufErrors\nUdp: {sent // 10**6} 0 0 0\n"
        ),
        "proc/net/netstat": "TcpExt: ListenOverflows ListenDrops\nTcpExt: 0 0\n",
        "proc/net/softnet_stat": "".join(
            f"{sent // cpus:08x} 00000000 {sent // cpus // 10**7:08x}" + 9 * " 00000000" + f" {cpu:08x}\n"
            for cpu in range(cpus)
        ),
        "proc/net/sockstat": (
            f"sockets: used {400 + connections}\n"
            f"TCP: inuse {40 + connections} orphan 0 tw {machine.time_wait} alloc {60 + connections} mem 9\n"
            "UDP: inuse 12 mem 3\n"
        ),
    }


def _pressure(machine: SimulatedMachine, resource: str) -> str:
    return "".join(
        f"{kind} avg10=0.00 avg60=0.00 avg300=0.00 total={machine.pressure[resource, kind] * 1e6:.0f}\n"
        for kind in ("some", "full")
    )
