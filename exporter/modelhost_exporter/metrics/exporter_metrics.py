"""Metrics of the exporter itself: version, reloads, its process and its Python."""

from __future__ import annotations

import platform
import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from modelhost_exporter import __version__
from modelhost_exporter.logs import formatting as logs
from modelhost_exporter.metrics.families import counter, gauge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.metrics_core import Metric

BUILD_INFO = gauge("build_info", "Always 1, with the versions of the exporter and of Python.", "version", "python")
RELOAD_SUCCESSFUL = gauge(
    "config_last_reload_successful",
    "1 when the last reload of the configuration succeeded, else 0.",
    note="After a failure the previous configuration stays in force.",
)
RELOAD_TIMESTAMP = gauge(
    "config_last_reload_success_timestamp_seconds",
    "Time of the last successful reload, in seconds since 1970.",
)
DEMO = gauge(
    "demo",
    "1 when the host is simulated (--demo), else absent.",
)
LOG_DROPPED = counter(
    "log_messages_dropped",
    "Log messages that were not written because standard error was full, closed or not read.",
)
PRICE = gauge(
    "energy_price_per_kwh",
    "Price of a kilowatt-hour, as configured.",
    "currency",
    note="From `cost`; absent without it. Recording rules and dashboards compute costs from it.",
)
FAMILIES = (BUILD_INFO, RELOAD_SUCCESSFUL, RELOAD_TIMESTAMP, DEMO, LOG_DROPPED, PRICE)


class ExporterMetrics:
    """The exporter's own families, with prometheus_client's process_* and python_*."""

    def __init__(self, now: Callable[[], float] = time.time, *, simulated: bool = False) -> None:
        self._now = now
        self._simulated = simulated
        self.registry = CollectorRegistry()
        """The registry for metrics that other modules update as events happen."""
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._build = (__version__, platform.python_version())
        self.reloaded(successful=True)
        self._price: float | None = None
        self._currency = ""

    def set_energy_price(self, currency: str, per_kwh: float | None) -> None:
        """Set the price of a kilowatt-hour; None: there is none."""
        self._currency, self._price = currency, per_kwh

    def reloaded(self, *, successful: bool) -> None:
        """Record whether reading the configuration succeeded."""
        self._successful = successful
        if successful:
            self._read_at = self._now()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the exporter itself."""
        yield from BUILD_INFO.by([(self._build, 1)])
        yield from RELOAD_SUCCESSFUL.of(float(self._successful))
        yield from RELOAD_TIMESTAMP.of(self._read_at)
        yield from DEMO.of(1 if self._simulated else None)
        yield from LOG_DROPPED.of(float(logs.dropped()))
        yield from PRICE.by([((self._currency,), self._price)])
        yield from self.registry.collect()
