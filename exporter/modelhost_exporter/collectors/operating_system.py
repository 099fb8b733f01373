"""Name and version of the operating system."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from modelhost_exporter.metrics.families import gauge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.metrics_core import Metric

    from modelhost_exporter.collector import Collector, CollectorContext, CollectorOptions, SimulatedHost

INFO = gauge(
    "os_info", "Always 1, with the name and release of the operating system.", "system", "release", "machine", "version"
)
FAMILIES = (INFO,)


class OperatingSystemCollector:
    """The operating system's name and release, from uname."""

    def __init__(self, uname: Callable[[], platform.uname_result] = platform.uname) -> None:
        self._uname = uname

    def collect(self) -> Iterator[Metric]:
        """Yield the sample with the names as labels."""
        uname = self._uname()
        yield from INFO.by([((uname.system, uname.release, uname.machine, uname.version), 1)])


def create(_options: CollectorOptions, _context: CollectorContext) -> Collector:
    """Build the operating system collector."""
    return OperatingSystemCollector()


def create_simulated(_options: CollectorOptions, _context: CollectorContext, host: SimulatedHost) -> Collector:
    """Build the collector for ``--demo``."""
    return OperatingSystemCollector(host.uname)
