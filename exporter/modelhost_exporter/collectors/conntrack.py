"""Connections tracked by the firewall, their limit, and packets dropped for lack of room."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from modelhost_exporter.collector import Collector, CollectorContext, CollectorOptions, SimulatedHost, parts
from modelhost_exporter.linux.kernel_files import count, hexadecimal, read
from modelhost_exporter.metrics.families import counter, gauge

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

ENTRIES = gauge("nf_conntrack_entries", "Connections that the firewall tracks.")
LIMIT = gauge(
    "nf_conntrack_entries_limit",
    "Connections that the firewall can track (net.netfilter.nf_conntrack_max).",
    note="At the limit new connections are dropped.",
)
_STATISTICS = {
    "drop": counter("nf_conntrack_stat_drop", "Packets dropped because no further connection could be tracked."),
    "early_drop": counter(
        "nf_conntrack_stat_early_drop", "Tracked connections given up early to make room for new ones."
    ),
    "insert_failed": counter("nf_conntrack_stat_insert_failed", "Connections that could not be entered in the table."),
    "invalid": counter("nf_conntrack_stat_invalid", "Packets that belong to no connection that can be tracked."),
}
FAMILIES = (ENTRIES, LIMIT, *_STATISTICS.values())


class ConntrackCollector:
    """The table of connections of the exporter's network namespace."""

    def __init__(self, procfs: Path) -> None:
        self._settings = procfs / "sys/net/netfilter"
        self._statistics = procfs / "net/stat/nf_conntrack"

    def collect(self) -> Iterator[Metric]:
        """Yield entries, limit and statistics; Unavailable where nothing is tracked."""
        yield from parts(
            lambda: ENTRIES.of(self._setting("nf_conntrack_count")),
            lambda: LIMIT.of(self._setting("nf_conntrack_max")),
            self._counters,
        )

    def _setting(self, name: str) -> int:
        return count(read(self._settings / name).strip())

    def _counters(self) -> Iterator[Metric]:
        found = parse_statistics(read(self._statistics))
        for name, family in _STATISTICS.items():
            yield from family.of(found.get(name))


def parse_statistics(text: str) -> Mapping[str, int]:
    """Return the sums over CPUs: a line of names, then a line of hexadecimal numbers for each CPU."""
    names, *lines = [line.split() for line in text.split("\n") if line] or [[]]
    sums: dict[str, int] = {}
    for line in lines:
        for name, digits in zip(names, line, strict=False):
            with suppress(ValueError):
                sums[name] = sums.get(name, 0) + hexadecimal(digits)
    return sums


def create(_options: CollectorOptions, context: CollectorContext) -> Collector:
    """Build the collector of tracked connections."""
    return ConntrackCollector(context.paths.procfs)


def create_simulated(options: CollectorOptions, context: CollectorContext, _host: SimulatedHost) -> Collector:
    """Build the collector for ``--demo``, which writes the same files."""
    return create(options, context)
