"""Pressure stall information: time lost while waiting for CPU, memory and disk."""

from __future__ import annotations

import errno
import re
from functools import partial
from typing import TYPE_CHECKING

from modelhost_exporter.collector import Collector, CollectorContext, CollectorOptions, SimulatedHost, Unavailable, each
from modelhost_exporter.linux.kernel_files import count, read
from modelhost_exporter.metrics.families import counter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

WAITING = counter(
    "pressure_waiting_seconds",
    "Seconds in which at least one task waited for the resource (the kernel's 'some').",
    "resource",
)
STALLED = counter(
    "pressure_stalled_seconds",
    "Seconds in which all runnable tasks waited for the resource at the same time.",
    "resource",
    note="The kernel's 'full'. Not defined for the CPU of a whole machine, so absent there.",
)
FAMILIES = (WAITING, STALLED)

_RESOURCES = ("cpu", "memory", "io")
_TOTALS = re.compile(r"^(some|full) .*\btotal=(\d+)", re.MULTILINE)


class PressureCollector:
    """The kernel's pressure totals (/proc/pressure; Linux 4.20 and later)."""

    def __init__(self, procfs: Path, read_file: Callable[[Path], str] = read) -> None:
        self._folder = procfs / "pressure"
        self._read_file = read_file

    def collect(self) -> Iterator[Metric]:
        """Yield waiting and stalled seconds; Unavailable where the kernel does not account for pressure."""
        totals = each({resource: partial(self._totals, resource) for resource in _RESOURCES})
        yield from WAITING.by(((resource,), total.get("some")) for resource, total in totals.items())
        yield from STALLED.by(
            ((resource,), total.get("full")) for resource, total in totals.items() if resource != "cpu"
        )

    def _totals(self, resource: str) -> dict[str, float]:
        return parse_totals(self._read(resource))

    def _read(self, resource: str) -> str:
        try:
            return self._read_file(self._folder / resource)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:  # compiled in, and switched off (psi=0)
                raise Unavailable("pressure accounting is switched off (boot with psi=1)") from error
            raise


def parse_totals(text: str) -> dict[str, float]:
    """Return seconds under 'some' and 'full' from one file of /proc/pressure."""
    return {kind: count(microseconds) / 1e6 for kind, microseconds in _TOTALS.findall(text)}


def create(_options: CollectorOptions, context: CollectorContext) -> Collector:
    """Build the pressure collector."""
    return PressureCollector(context.paths.procfs)


def create_simulated(options: CollectorOptions, context: CollectorContext, _host: SimulatedHost) -> Collector:
    """Build the collector for ``--demo``, which writes the same files."""
    return create(options, context)
