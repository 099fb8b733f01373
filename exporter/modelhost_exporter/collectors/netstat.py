"""Faults of TCP and UDP: retransmits, resets, dropped connections and datagrams."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.collector import Collector, CollectorContext, CollectorOptions, SimulatedHost, each
from modelhost_exporter.linux.kernel_files import read
from modelhost_exporter.linux.netstat import Counters, parse_pairs, parse_snmp6, total
from modelhost_exporter.metrics.families import counter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

_TCP, _TCP_EXTENSIONS, _UDP = ("Tcp",), ("TcpExt",), ("Udp", "Udp6")

# protocols and the kernel's name (Linux Documentation/networking/snmp_counter.rst) → family
_COUNTERS = {
    (_TCP, "OutSegs"): counter("netstat_tcp_out_segments", "TCP segments sent, without those that were sent again."),
    (_TCP, "RetransSegs"): counter(
        "netstat_tcp_retransmitted_segments",
        "TCP segments sent again because they were not confirmed.",
        note="As a share of `netstat_tcp_out_segments_total` it is the loss on the way: below 1 % on a good network.",
    ),
    (_TCP, "OutRsts"): counter("netstat_tcp_out_resets", "TCP resets sent, such as for a port without a server."),
    (_TCP, "EstabResets"): counter("netstat_tcp_established_resets", "Established TCP connections that were reset."),
    (_TCP, "InErrs"): counter("netstat_tcp_in_errors", "TCP segments received with an error."),
    (_TCP_EXTENSIONS, "ListenOverflows"): counter(
        "netstat_tcp_listen_overflows", "New TCP connections for which the queue of the listening program was full."
    ),
    (_TCP_EXTENSIONS, "ListenDrops"): counter(
        "netstat_tcp_listen_drops", "New TCP connections dropped before a program accepted them, overflows included."
    ),
    (_UDP, "InErrors"): counter(
        "netstat_udp_in_errors", "UDP datagrams received and not delivered, full buffers included."
    ),
    (_UDP, "RcvbufErrors"): counter(
        "netstat_udp_receive_buffer_errors", "UDP datagrams dropped because the program's receive buffer was full."
    ),
    (_UDP, "SndbufErrors"): counter(
        "netstat_udp_send_buffer_errors", "UDP datagrams not sent because the send buffer was full."
    ),
    (_UDP, "NoPorts"): counter("netstat_udp_no_ports", "UDP datagrams received for a port without a program."),
}
FAMILIES = tuple(_COUNTERS.values())
_WANTED = frozenset((protocol, name) for protocols, name in _COUNTERS for protocol in protocols)


class NetstatCollector:
    """Counters of the exporter's network namespace, IPv4 and IPv6, from /proc/net/snmp, netstat and snmp6."""

    def __init__(self, procfs: Path) -> None:
        self._net = procfs / "net"

    def collect(self) -> Iterator[Metric]:
        """Yield the counters; Unavailable without /proc/net."""
        files = {
            "snmp": lambda: parse_pairs(read(self._net / "snmp"), _WANTED),
            "netstat": lambda: parse_pairs(read(self._net / "netstat"), _WANTED),
            "snmp6": lambda: parse_snmp6(read(self._net / "snmp6"), _WANTED),
        }
        found: Counters = {}
        for counters in each(files).values():
            found |= counters
        for (protocols, name), family in _COUNTERS.items():
            yield from family.of(total(found, protocols, name))


def create(_options: CollectorOptions, context: CollectorContext) -> Collector:
    """Build the collector of protocol counters."""
    return NetstatCollector(context.paths.procfs)


def create_simulated(options: CollectorOptions, context: CollectorContext, _host: SimulatedHost) -> Collector:
    """Build the collector for ``--demo``, which writes the same files."""
    return create(options, context)
