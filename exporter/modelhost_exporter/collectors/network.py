"""Network traffic, errors, drops, state and speed per interface."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil

from modelhost_exporter.collector import (
    Collector,
    CollectorContext,
    CollectorOptions,
    SimulatedHost,
    Unavailable,
    parts,
)
from modelhost_exporter.config.name_filter import NameFilter, all_but
from modelhost_exporter.linux.interfaces import Interfaces
from modelhost_exporter.metrics.families import counter, gauge
from modelhost_exporter.metrics.summed_counters import SummedFamilies

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric

# field of psutil → family
_COUNTERS = {
    "bytes_recv": counter("network_receive_bytes", "Bytes received.", "device"),
    "bytes_sent": counter("network_transmit_bytes", "Bytes sent.", "device"),
    "packets_recv": counter("network_receive_packets", "Packets received.", "device"),
    "packets_sent": counter("network_transmit_packets", "Packets sent.", "device"),
    "errin": counter("network_receive_errors", "Packets received with an error.", "device"),
    "errout": counter("network_transmit_errors", "Packets that could not be sent because of an error.", "device"),
    "dropin": counter(
        "network_receive_dropped", "Received packets the kernel dropped, often for lack of buffers.", "device"
    ),
    "dropout": counter("network_transmit_dropped", "Outgoing packets the kernel dropped.", "device"),
}
UP = gauge("network_up", "1 when the interface is up and running, else 0.", "device")
SPEED = gauge(
    "network_speed_bytes",
    "Link speed in bytes per second.",
    "device",
    note="Absent where the driver does not report it.",
)
_NOTE = (
    "Independent of the option `devices`. A bond, bridge or VLAN is not counted beside the interfaces below it; in a "
    "container without hardware those that it has are counted. Starts at 0."
)
_HOST = {
    "bytes_recv": counter(
        "host_network_receive_bytes", "Bytes received by all physical interfaces together.", note=_NOTE
    ),
    "bytes_sent": counter("host_network_transmit_bytes", "Bytes sent by all physical interfaces together.", note=_NOTE),
}
FAMILIES = (*_COUNTERS.values(), UP, SPEED, *_HOST.values())

_BYTES_PER_MEGABIT = 1e6 / 8
_VIRTUAL = (
    r"lo\d*",
    r"veth.*",
    r"(docker|lxdbr|incusbr|ovs-system)\d*",
    r"(podman|nerdctl)\d+",
    r"br-[0-9a-f]{12}",
    r"(fwbr|fwln|fwpr|tap)\d+[ip]\d+",
    r"virbr\d+.*",
    r"(vnet|tap|tun|tailscale|utun|gif|stf|awdl|llw|anpi|ap)\d+",
    r"(wg|zt)[0-9a-z-]*",
    r"(cni|flannel|cali|cilium|lxc|kube|nodelocaldns|weave|vxlan|geneve).*",
    r"(dummy|ifb|bonding_masters|sit|gre|gretap|erspan|ip6tnl|ip6gre|tunl|ip_vti|ip6_vti|teql)\d*",
)
_LOOPBACK = re.compile(r"lo\d*|Loopback.*")
_STACKED = re.compile(r"(bond|team|br|vmbr|bridge|vlan|macvlan|ipvlan)\d+|.+\.\d+")


@dataclass(frozen=True)
class NetworkOptions(CollectorOptions):
    """The selected interfaces."""

    devices: NameFilter = field(default_factory=lambda: all_but(*_VIRTUAL))
    """Loopback, tunnels, and interfaces and bridges of containers are left out by default."""


OPTIONS = NetworkOptions


def _by_name(_names: Iterable[str], selected: Collection[str]) -> Collection[str]:
    """Return the selected interfaces without those that are above others, judged by their names."""
    names = [name for name in selected if not _LOOPBACK.fullmatch(name)]
    return [name for name in names if not _STACKED.fullmatch(name)] or names


class NetworkCollector:
    """Traffic counters, state and link speed of the selected interfaces, and the bytes of all physical ones.

    ``links`` returns states by interface; by default psutil's, which holds the interpreter while it calls the driver.
    ``carriers`` returns the physical interfaces, given all and the selected ones; by default the names decide.
    """

    def __init__(
        self,
        devices: NameFilter,
        source: Any = psutil,
        links: Callable[[Collection[str]], Mapping[str, Any]] | None = None,
        carriers: Callable[[Iterable[str], Collection[str]], Collection[str]] = _by_name,
    ) -> None:
        self._devices = devices
        self._source = source
        self._links = links or self._links_of_source
        self._carriers = carriers
        self._of_host = SummedFamilies(_HOST)

    def collect(self) -> Iterator[Metric]:
        """Yield counters, state and speed of each interface; Unavailable when none is selected."""
        read_all = self._source.net_io_counters(pernic=True, nowrap=False) or {}
        interfaces = {name: counts for name, counts in read_all.items() if self._devices.keeps(name)}
        if not interfaces:
            raise Unavailable("no network interface is selected")
        yield from parts(
            lambda: _traffic(interfaces),
            lambda: self._states(list(interfaces)),
            lambda: self._of_host.of({name: read_all[name] for name in self._carriers(read_all, interfaces)}),
        )

    def _states(self, names: Collection[str]) -> Iterator[Metric]:
        links = self._links(names)
        yield from UP.by(((name,), float(link.isup)) for name, link in links.items())
        yield from SPEED.by(((name,), bytes_per_second(link.speed)) for name, link in links.items())

    def _links_of_source(self, names: Collection[str]) -> Mapping[str, Any]:
        return {name: link for name, link in self._source.net_if_stats().items() if name in names}


def _traffic(interfaces: Mapping[str, Any]) -> Iterator[Metric]:
    for source_field, family in _COUNTERS.items():
        yield from family.by(((name,), getattr(counts, source_field)) for name, counts in interfaces.items())


def bytes_per_second(megabits: int) -> float | None:
    """Return a link's speed; None for 0 (psutil), 2³²-1 and 65535 (drivers), which mean unknown."""
    return megabits * _BYTES_PER_MEGABIT if 0 < megabits < 2**31 and megabits != 2**16 - 1 else None


def create(options: NetworkOptions, context: CollectorContext) -> Collector:
    """Build the network collector."""
    if sys.platform != "linux":
        return NetworkCollector(options.devices)
    interfaces = Interfaces(context.paths.procfs, context.paths.sysfs)
    return NetworkCollector(options.devices, interfaces, interfaces.links, interfaces.carriers)


def create_simulated(options: NetworkOptions, _context: CollectorContext, host: SimulatedHost) -> Collector:
    """Build the collector for ``--demo``."""
    return NetworkCollector(options.devices, host.psutil)
