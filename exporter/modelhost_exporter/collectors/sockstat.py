"""Sockets in use, and their memory."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

from modelhost_exporter.collector import Collector, CollectorContext, CollectorOptions, SimulatedHost, each
from modelhost_exporter.linux.kernel_files import read
from modelhost_exporter.linux.netstat import Counters, parse_sockstat, total
from modelhost_exporter.metrics.families import gauge

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

_SOCKETS, _TCP, _UDP = ("sockets",), ("TCP", "TCP6"), ("UDP", "UDP6")
_MEMORY = "mem"

# protocols and the kernel's name → family
_GAUGES = {
    (_SOCKETS, "used"): gauge("sockstat_sockets_used", "Sockets of all kinds in use."),
    (_TCP, "inuse"): gauge("sockstat_tcp_inuse", "TCP sockets in use, without those in time-wait."),
    (_TCP, "orphan"): gauge("sockstat_tcp_orphan", "TCP sockets that no program has open any more."),
    (_TCP, "alloc"): gauge("sockstat_tcp_alloc", "TCP sockets that the kernel holds memory for, in any state."),
    (_TCP, _MEMORY): gauge("sockstat_tcp_memory_bytes", "Memory of TCP buffers of all network namespaces."),
    (_UDP, "inuse"): gauge("sockstat_udp_inuse", "UDP sockets in use."),
    (_UDP, _MEMORY): gauge("sockstat_udp_memory_bytes", "Memory of UDP buffers of all network namespaces."),
}
FAMILIES = tuple(_GAUGES.values())


class SockstatCollector:
    """Sockets of the exporter's network namespace, IPv4 and IPv6, from /proc/net/sockstat and sockstat6."""

    def __init__(self, procfs: Path, page_bytes: int = mmap.PAGESIZE) -> None:
        self._net = procfs / "net"
        self._page_bytes = page_bytes

    def collect(self) -> Iterator[Metric]:
        """Yield the numbers; Unavailable without /proc/net."""
        files = {name: lambda name=name: parse_sockstat(read(self._net / name)) for name in ("sockstat", "sockstat6")}
        found: Counters = {}
        for counters in each(files).values():
            found |= counters
        for (protocols, name), family in _GAUGES.items():
            number = total(found, protocols, name)
            yield from family.of(number * self._page_bytes if number is not None and name == _MEMORY else number)


def create(_options: CollectorOptions, context: CollectorContext) -> Collector:
    """Build the collector of sockets."""
    return SockstatCollector(context.paths.procfs)


def create_simulated(_options: CollectorOptions, context: CollectorContext, host: SimulatedHost) -> Collector:
    """Build the collector for ``--demo``, which writes the same files."""
    return SockstatCollector(context.paths.procfs, host.page_bytes)
