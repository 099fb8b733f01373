"""TCP connections by state, from the kernel's own summaries."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from modelhost_exporter.collector import Collector, CollectorContext, CollectorOptions, SimulatedHost, each
from modelhost_exporter.linux.kernel_files import count, read
from modelhost_exporter.metrics.families import gauge

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

CONNECTIONS = gauge(
    "tcp_connections",
    "TCP connections by state, IPv4 and IPv6, in the exporter's network namespace.",
    "state",
    note=("established includes connections that the peer has already closed (CLOSE-WAIT), as the kernel counts them."),
)
FAMILIES = (CONNECTIONS,)

_TIME_WAIT = re.compile(r"^TCP: .*\btw (\d+)", re.MULTILINE)


class TcpCollector:
    """Established and time-wait connections from /proc/net/snmp and sockstat, without reading every socket."""

    def __init__(self, procfs: Path) -> None:
        self._net = procfs / "net"

    def collect(self) -> Iterator[Metric]:
        """Yield the connections; Unavailable without /proc/net."""
        numbers = each(
            {
                "established": lambda: parse_established(read(self._net / "snmp")),
                "time_wait": lambda: parse_time_wait(read(self._net / "sockstat")),
            }
        )
        yield from CONNECTIONS.by(((state,), number) for state, number in numbers.items())


def parse_established(snmp: str) -> int | None:
    """Return CurrEstab of /proc/net/snmp, which has pairs of lines: names, then numbers."""
    rows = [line.split() for line in snmp.split("\n") if line.startswith("Tcp:")]
    if len(rows) != 2:  # noqa: PLR2004 - the pair
        return None
    number = dict(zip(*rows, strict=False)).get("CurrEstab")
    return None if number is None else count(number)


def parse_time_wait(sockstat: str) -> int | None:
    """Return the number of sockets in TIME-WAIT from /proc/net/sockstat, which includes IPv6."""
    found = _TIME_WAIT.search(sockstat)
    return count(found[1]) if found else None


def create(_options: CollectorOptions, context: CollectorContext) -> Collector:
    """Build the TCP collector."""
    return TcpCollector(context.paths.procfs)


def create_simulated(options: CollectorOptions, context: CollectorContext, _host: SimulatedHost) -> Collector:
    """Build the collector for ``--demo``, which writes the same files."""
    return create(options, context)
