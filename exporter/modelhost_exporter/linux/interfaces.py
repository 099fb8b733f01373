"""Network interfaces: counters from /proc/net/dev, state and link speed from /sys/class/net."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.linux.kernel_files import (
    all_counts,
    each_line,
    is_present,
    read,
    read_if_possible,
    whole_number,
)
from modelhost_exporter.parallel_reads import ParallelReads

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

_HEADER_LINES = 2
_RUNNING = ("up", "unknown")  # the kernel's IFF_RUNNING: netif_oper_up() in include/linux/netdevice.h
_NOT_CABLES = ("65534", "768", "769", "772", "776", "778", "823")
"""ARPHRD_NONE (tun, WireGuard), TUNNEL, TUNNEL6, LOOPBACK, SIT, IPGRE, IP6GRE of include/uapi/linux/if_arp.h."""
_SLOW_SECONDS = 0.5
_WAIT_SECONDS = 0.1


_FUNCTION = re.compile(r"(c\d+|p\d+)?pf\d+((vf|vfr|sf)\d+)?|\d+")
"""``phys_port_name`` of functions: devlink's names (kernel/net/devlink/port.c), and the number of older drivers."""


class _Interface(NamedTuple):
    """An interface, which may have the name of an earlier one."""

    name: str
    number: str | None


class NicCounts(NamedTuple):
    """One interface's counters, under psutil's names."""

    bytes_sent: int
    bytes_recv: int
    packets_sent: int
    packets_recv: int
    errin: int
    errout: int
    dropin: int
    dropout: int


class Link(NamedTuple):
    """One interface's state and speed in Mbit/s (0: unknown), under psutil's names."""

    isup: bool
    speed: int


class Interfaces:
    """Interface counters, states and speeds below the given /proc and /sys.

    ``operstate`` comes from the kernel's memory. ``speed`` calls the driver under the lock of all network
    configuration, which a slow driver holds for seconds: it is read in threads of its own, and ``links`` waits at most
    ``wait_seconds``.
    """

    def __init__(self, procfs: Path, sysfs: Path, wait_seconds: float = _WAIT_SECONDS) -> None:
        self._dev = procfs / "net/dev"
        self._folder = sysfs / "class/net"
        self._speeds = ParallelReads(self._speed, _SLOW_SECONDS, wait_seconds)
        self._ports = ParallelReads(self._is_representor, _SLOW_SECONDS, wait_seconds)
        self._representors: dict[_Interface, bool] = {}

    def net_io_counters(self, *, pernic: bool, nowrap: bool) -> dict[str, NicCounts]:
        """Return the counters of every interface."""
        del pernic, nowrap
        return parse_dev(read(self._dev))

    def links(self, names: Iterable[str]) -> dict[str, Link]:
        """Return the state of each interface that has one, and the speed of those that are up."""
        states = {name: read_if_possible(f"{self._folder}/{name}/operstate") for name in names}
        running = {name: state in _RUNNING for name, state in states.items() if state}
        speeds = self._speeds.measure([name for name, is_running in running.items() if is_running])
        return {
            name: Link(is_running, (speeds[name].value or 0) if is_running else 0)
            for name, is_running in running.items()
        }

    def carriers(self, names: Iterable[str], selected: Collection[str]) -> list[str]:
        """Return the interfaces that together carry each byte once: the hardware among all ``names``.

        Where there is none, as in a container, those of ``selected`` that are based on no other interface.
        """
        hardware = [name for name in names if self._is_hardware(name)]
        return self._without_representors(hardware) or [name for name in selected if self._is_base(name)]

    def _without_representors(self, names: Iterable[str]) -> list[str]:
        """Return the interfaces without those that stand for a virtual function or a guest on a card's switch.

        Their traffic passes the card's own port, where it is counted too. What an interface is does not change while it
        exists; the kernel looks it up under the lock of all network configuration.
        """
        interfaces = {name: _Interface(name, read_if_possible(f"{self._folder}/{name}/ifindex")) for name in names}
        unknown = [interface for interface in interfaces.values() if interface not in self._representors]
        known = {of: reading.value for of, reading in self._ports.measure(unknown).items() if reading.value is not None}
        before = {of: self._representors[of] for of in interfaces.values() if of in self._representors}
        self._representors = {**before, **known}
        return [name for name, interface in interfaces.items() if not self._representors.get(interface)]

    def _is_representor(self, interface: _Interface) -> bool:
        """Return whether a port of a switch in a card is that of a function rather than that of a cable."""
        folder = self._folder / interface.name
        port = read_if_possible(f"{folder}/phys_port_name") or ""
        return bool(_FUNCTION.fullmatch(port)) and bool(read_if_possible(f"{folder}/phys_switch_id"))

    def _is_hardware(self, name: str) -> bool:
        """Return whether an interface is a device (physical, or of a virtual machine) that counts its own traffic.

        Not a virtual function below an interface of the hypervisor that counts it too (hv_netvsc, net_failover), nor a
        part of another interface (IPoIB partitions, ports of a switch chip).
        """
        folder = f"{self._folder}/{name}"
        return (
            is_present(f"{folder}/device")
            and not is_present(f"{folder}/master/device")
            and read_if_possible(f"{folder}/iflink") == read_if_possible(f"{folder}/ifindex")
        )

    def _is_base(self, name: str) -> bool:
        """Return whether an interface is neither a tunnel nor above others: bond, bridge, VLAN, macvlan, ipvlan."""
        folder = self._folder / name
        return (
            read_if_possible(f"{folder}/type") not in _NOT_CABLES
            and not any(is_present(f"{folder}/{part}") for part in ("tun_flags", "bonding", "bridge"))
            and not any(folder.glob("lower_*"))
        )

    def _speed(self, name: str) -> int:
        """Read the speed in Mbit/s; OSError (EINVAL) where the driver has none."""
        return whole_number(read(f"{self._folder}/{name}/speed").strip())


def parse_dev(text: str) -> dict[str, NicCounts]:
    """Return the counters of /proc/net/dev by interface."""
    lines = text.split("\n", _HEADER_LINES)
    return dict(each_line(lines[-1], _parse_line, "net/dev")) if len(lines) > _HEADER_LINES else {}


def _parse_line(line: str) -> tuple[str, NicCounts]:
    name, _, rest = line.rpartition(":")
    name = name.strip(" ")  # other characters that Python strips (U+001C, U+0085 …) may be part of the name
    if not name:
        raise ValueError("no name")
    # receive: bytes packets errs drop fifo frame compressed multicast; transmit: bytes packets errs drop …
    fields = all_counts(rest.split())
    received, sent = fields[:4], fields[8:12]
    return name, NicCounts(
        bytes_sent=sent[0],
        bytes_recv=received[0],
        packets_sent=sent[1],
        packets_recv=received[1],
        errin=received[2],
        errout=sent[2],
        dropin=received[3],
        dropout=sent[3],
    )
