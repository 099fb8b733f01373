"""Bonds of network interfaces: how many interfaces each has, and how many of them work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.collector import Collector, CollectorContext, CollectorOptions, SimulatedHost, Unavailable
from modelhost_exporter.linux.kernel_files import read_if_possible
from modelhost_exporter.metrics.families import gauge

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

SLAVES = gauge("bonding_slaves", "Network interfaces that belong to the bond.", "master")
ACTIVE = gauge(
    "bonding_active",
    "Network interfaces of the bond whose link is up.",
    "master",
    note="Fewer than the bond has: it has lost its redundancy, or a part of its speed.",
)
FAMILIES = (SLAVES, ACTIVE)


class BondingCollector:
    """Bonds of the exporter's network namespace (source: Linux Documentation/networking/bonding.rst)."""

    def __init__(self, sysfs: Path) -> None:
        self._net = sysfs / "class/net"

    def collect(self) -> Iterator[Metric]:
        """Yield the bonds; Unavailable without one."""
        files = {file.parts[-3]: file for file in sorted(self._net.glob("*/bonding/slaves"))}
        members = {bond: (read_if_possible(file) or "").split() for bond, file in files.items()}
        if not members:
            raise Unavailable("no bond of network interfaces")
        yield from SLAVES.by(((bond,), len(names)) for bond, names in members.items())
        yield from ACTIVE.by(((bond,), sum(map(self._is_up, names))) for bond, names in members.items())

    def _is_up(self, member: str) -> bool:
        return read_if_possible(self._net / member / "bonding_slave/mii_status") == "up"


def create(_options: CollectorOptions, context: CollectorContext) -> Collector:
    """Build the collector of bonds."""
    return BondingCollector(context.paths.sysfs)


def create_simulated(options: CollectorOptions, context: CollectorContext, _host: SimulatedHost) -> Collector:
    """Build the collector for ``--demo``, which writes the same files."""
    return create(options, context)
