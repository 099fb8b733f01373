"""Packets that each CPU received from the network cards, and those dropped for lack of time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.collector import Collector, CollectorContext, CollectorOptions, SimulatedHost, Unavailable
from modelhost_exporter.linux.kernel_files import each_line, hexadecimal, read
from modelhost_exporter.metrics.families import counter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

PROCESSED = counter("softnet_processed", "Packets that the CPU took from network cards.", "cpu")
DROPPED = counter(
    "softnet_dropped",
    "Packets dropped because the CPU's queue was full.",
    "cpu",
    note="Raise `net.core.netdev_max_backlog`, or spread the interrupts of the card over more CPUs.",
)
SQUEEZED = counter(
    "softnet_times_squeezed",
    "Times that the CPU stopped with packets left, its budget being used up.",
    "cpu",
    note="Harmless now and then; if it rises all the time, raise `net.core.netdev_budget`.",
)
FAMILIES = (PROCESSED, DROPPED, SQUEEZED)

_CPU_COLUMN = 12  # since Linux 5.10; before, offline CPUs have no line, and the line's number is the best guess


class SoftnetCollector:
    """Lines of /proc/net/softnet_stat, one for each online CPU (source: the kernel's net/core/net-procfs.c)."""

    def __init__(self, procfs: Path) -> None:
        self._file = procfs / "net/softnet_stat"

    def collect(self) -> Iterator[Metric]:
        """Yield the counters of each CPU; Unavailable without the file."""
        lines = each_line(read(self._file), _parse_line, "softnet_stat")
        if not lines:
            raise Unavailable(f"{self._file} has no CPU")
        by_cpu = {str(index if cpu is None else cpu): counts for index, (cpu, counts) in enumerate(lines)}
        for column, family in enumerate(FAMILIES):
            yield from family.by(((cpu,), counts[column]) for cpu, counts in by_cpu.items())


def _parse_line(line: str) -> tuple[int | None, list[int]]:
    """Return the CPU's number, if the kernel has it, and the first counters."""
    fields = [hexadecimal(field) for field in line.split()]
    if len(fields) < len(FAMILIES):
        raise ValueError("too few counters")
    return (fields[_CPU_COLUMN] if len(fields) > _CPU_COLUMN else None), fields[: len(FAMILIES)]


def create(_options: CollectorOptions, context: CollectorContext) -> Collector:
    """Build the collector of received packets."""
    return SoftnetCollector(context.paths.procfs)


def create_simulated(options: CollectorOptions, context: CollectorContext, _host: SimulatedHost) -> Collector:
    """Build the collector for ``--demo``, which writes the same files."""
    return create(options, context)
