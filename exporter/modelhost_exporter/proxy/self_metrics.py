"""Metrics of the proxy itself: added latency, parse errors, closed connections, delay of the event loop."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING

from modelhost_exporter.metrics.families import counter, gauge, histogram
from modelhost_exporter.metrics.instruments import live_counter, live_gauge, live_histogram
from modelhost_exporter.process.connection_activity import BODY_TIMEOUT, HEADER_TIMEOUT, IDLE_TIMEOUT, SEND_TIMEOUT
from modelhost_exporter.process.connection_limits import ADDRESS_LIMIT, CONNECTION_LIMIT, DESCRIPTORS

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from modelhost_exporter.metrics.instruments import Histogram

_SHORT = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)

OVERHEAD = histogram(
    "proxy_overhead_seconds",
    "Time that the proxy adds to a request, by leg.",
    _SHORT,
    "server",
    "leg",
    note=(
        "request: from the request's headers until it is forwarded; response: the longest time that a "
        "part of the response spent in the proxy, slow clients included."
    ),
)
PARSE_ERRORS = counter(
    "proxy_parse_errors",
    "Messages that could not be parsed, by dialect and reason.",
    "server",
    "api",
    "reason",
    note="They were forwarded all the same.",
)
LOOP_LAG = histogram(
    "proxy_event_loop_lag_seconds",
    "Delay of the event loop, measured twice a second.",
    (*_SHORT, 0.25, 0.5, 1.0),
    note="Everything that the proxy forwards waits this long.",
)
CLOSED = counter(
    "proxy_connections_closed",
    "Clients' connections that were refused, or closed because of a limit or a failed handshake, by reason.",
    "server",
    "reason",
    note=(
        "header_timeout, idle_timeout, body_timeout, send_timeout: closed by that setting. connection_limit, "
        "address_limit, descriptors: closed while idle to make room for a new one, or refused. "
        "too_large_headers: answered 431. tls_handshake: no TLS, no common version, or no valid client certificate."
    ),
)
TOO_LARGE_HEADERS, TLS_HANDSHAKE = "too_large_headers", "tls_handshake"
CLOSE_REASONS = (
    *(HEADER_TIMEOUT, IDLE_TIMEOUT, BODY_TIMEOUT, SEND_TIMEOUT, TOO_LARGE_HEADERS),
    *(CONNECTION_LIMIT, ADDRESS_LIMIT, DESCRIPTORS, TLS_HANDSHAKE),
)
RETRIES = counter(
    "proxy_upstream_retries",
    "Requests sent to the upstream once more, by reason.",
    "server",
    "reason",
    note="closed: a kept connection was closed before any byte of the response.",
)
USAGE_STATE = gauge(
    "proxy_include_usage",
    "Whether the proxy requests token usage of streams: 1 for the state that the server is in.",
    "server",
    "state",
    note=(
        "off: switched off, or the engine's kind is unknown or does not accept it. trial: the next stream "
        "shows whether the server sends usage by itself. requested: the proxy requests it and removes the extra "
        "frame. unrequested: the server sends it by itself. refused: tried again after ten minutes."
    ),
)
UPSTREAM_REQUESTS = counter(
    "proxy_upstream_requests",
    "Attempts to send a request to one of a server's upstreams, by outcome.",
    "server",
    "upstream",
    "outcome",
    note=(
        "Only of servers with several urls; else modelhost_requests_total has the same. A request that "
        "could not be sent to one upstream and was sent to another counts at both."
    ),
    combine="sum",
)
UPSTREAM_IN_FLIGHT = gauge(
    "proxy_upstream_requests_in_flight",
    "Requests that one of a server's upstreams is working on.",
    "server",
    "upstream",
    note="Only of servers with several urls.",
    combine="sum",
)
UPSTREAM_UP = gauge(
    "proxy_upstream_up",
    "Whether an upstream receives requests: 0 while it is ejected because of failures.",
    "server",
    "upstream",
    note=(
        "Only of servers with several urls; a single one is never ejected. After an ejection one request at a time is "
        "a trial, and the first success ends it."
    ),
    combine="each",
)
UPSTREAM_EJECTIONS = counter(
    "proxy_upstream_ejections",
    "How often an upstream was ejected because requests failed.",
    "server",
    "upstream",
    note="Only of servers with several urls. A failed trial counts too.",
    combine="sum",
)
FAMILIES = (
    *(OVERHEAD, PARSE_ERRORS, LOOP_LAG, CLOSED, RETRIES, USAGE_STATE),
    *(UPSTREAM_REQUESTS, UPSTREAM_IN_FLIGHT, UPSTREAM_UP, UPSTREAM_EJECTIONS),
)
USAGE_STATES = ("off", "trial", "requested", "unrequested", "refused")

_LAG_INTERVAL_SECONDS = 0.5


class SelfMetrics:
    """The proxy's own histograms and counters, in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._overhead = live_histogram(OVERHEAD, registry)
        self._parse_errors = live_counter(PARSE_ERRORS, registry)
        self._lag = live_histogram(LOOP_LAG, registry).labels()
        self._closed = live_counter(CLOSED, registry)
        self._retries = live_counter(RETRIES, registry)
        self._usage_state = live_gauge(USAGE_STATE, registry)
        self.upstreams = UpstreamMetrics(registry)

    def overhead(self, server: str, leg: str) -> Histogram:
        """Return the histogram of what a leg of requests is delayed by, for observe()."""
        return self._overhead.labels(server, leg)

    def parse_error(self, server: str, api: str, reason: str) -> None:
        """Count something that could not be read."""
        self._parse_errors.labels(server, api, reason).inc()

    def add_server(self, server: str) -> None:
        """Start the series of closed connections at 0, so that rate() sees the first one."""
        for reason in CLOSE_REASONS:
            self._closed.labels(server, reason)

    def connection_closed(self, server: str, reason: str) -> None:
        """Count a client's connection that is closed because of a limit."""
        self._closed.labels(server, reason).inc()

    def retried(self, server: str, reason: str) -> None:
        """Count a request that is sent to the upstream once more."""
        self._retries.labels(server, reason).inc()

    def usage_state(self, server: str, state: str) -> None:
        """Show in which state requesting token usage from a server is."""
        for each in USAGE_STATES:
            self._usage_state.labels(server, each).set(each == state)

    def late(self, seconds: float) -> None:
        """Note how late the event loop was."""
        self._lag.observe(seconds)

    async def watch_loop(self) -> None:
        """Measure the event loop's lag until cancelled."""
        while True:
            due = time.monotonic() + _LAG_INTERVAL_SECONDS
            await asyncio.sleep(_LAG_INTERVAL_SECONDS)
            self.late(max(0.0, time.monotonic() - due))


class UpstreamMetrics:
    """Metrics of each upstream of the servers that have several."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = live_counter(UPSTREAM_REQUESTS, registry)
        self._in_flight = live_gauge(UPSTREAM_IN_FLIGHT, registry)
        self._up = live_gauge(UPSTREAM_UP, registry)
        self._ejections = live_counter(UPSTREAM_EJECTIONS, registry)
        self._users: Counter[tuple[str, str]] = Counter()

    def add(self, server: str, upstream: str) -> None:
        """Begin the series of an upstream, unless settings that are still in use have begun them."""
        self._users[server, upstream] += 1
        if self._users[server, upstream] == 1:
            self._in_flight.labels(server, upstream)
            self._ejections.labels(server, upstream)
            self.up(server, upstream, is_up=True)

    def remove(self, server: str, upstream: str) -> None:
        """End the series of an upstream, unless other settings use them."""
        self._users[server, upstream] -= 1
        if self._users[server, upstream] > 0:
            return
        del self._users[server, upstream]
        self._requests.remove(server=server, upstream=upstream)
        self._in_flight.remove(server=server, upstream=upstream)
        self._up.remove(server=server, upstream=upstream)
        self._ejections.remove(server=server, upstream=upstream)

    def begin(self, server: str, upstream: str) -> None:
        """Count a request in flight."""
        self._in_flight.labels(server, upstream).inc()

    def end(self, server: str, upstream: str, outcome: str) -> None:
        """Count the end of a request."""
        self._in_flight.labels(server, upstream).dec()
        self._requests.labels(server, upstream, outcome).inc()

    def up(self, server: str, upstream: str, *, is_up: bool) -> None:
        """Show whether an upstream receives requests."""
        self._up.labels(server, upstream).set(is_up)

    def ejected(self, server: str, upstream: str) -> None:
        """Count an ejection."""
        self._ejections.labels(server, upstream).inc()
