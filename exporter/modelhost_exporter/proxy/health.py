"""What the proxy says about itself: what it adds to requests, what it could not read, how busy the event loop is."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from modelhost_exporter.metrics.families import counter, histogram
from modelhost_exporter.metrics.instruments import live_counter, live_histogram

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_SHORT = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)

OVERHEAD = histogram(
    "proxy_overhead_seconds",
    "What the proxy itself adds: leg request, from the request's head until it is passed on; leg response, the longest"
    " time a piece of the reply spent here, slow clients included.",
    _SHORT,
    "server",
    "leg",
)
PARSE_ERRORS = counter(
    "proxy_parse_errors",
    "Replies (and requests) that could not be read, by dialect and reason. They were forwarded all the same.",
    "server",
    "api",
    "reason",
)
LOOP_LAG = histogram(
    "proxy_event_loop_lag_seconds",
    "How late the event loop is, measured twice a second: everything the proxy forwards waits this long.",
    (*_SHORT, 0.25, 0.5, 1.0),
)
CLOSED = counter(
    "proxy_connections_closed",
    "Clients' connections refused, or closed while idle, because file descriptors were short.",
    "server",
    "reason",
)
FAMILIES = (OVERHEAD, PARSE_ERRORS, LOOP_LAG, CLOSED)

_LAG_INTERVAL_SECONDS = 0.5


class ProxyHealth:
    """The proxy's own histograms and counters, in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._overhead = live_histogram(OVERHEAD, registry)
        self._parse_errors = live_counter(PARSE_ERRORS, registry)
        self._lag = live_histogram(LOOP_LAG, registry).labels()
        self._closed = live_counter(CLOSED, registry)

    def overhead(self, server: str, leg: str, seconds: float) -> None:
        """Note what one request's leg was delayed by."""
        self._overhead.labels(server, leg).observe(max(0.0, seconds))

    def parse_error(self, server: str, api: str, reason: str) -> None:
        """Count something that could not be read."""
        self._parse_errors.labels(server, api, reason).inc()

    def connection_closed(self, server: str) -> None:
        """Count a client's connection that was closed because file descriptors were short."""
        self._closed.labels(server, "descriptors").inc()

    def late(self, seconds: float) -> None:
        """Note how late the event loop was."""
        self._lag.observe(seconds)

    async def watch_loop(self) -> None:
        """Measure the event loop's lag until cancelled."""
        while True:
            due = time.monotonic() + _LAG_INTERVAL_SECONDS
            await asyncio.sleep(_LAG_INTERVAL_SECONDS)
            self.late(max(0.0, time.monotonic() - due))
