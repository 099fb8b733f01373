"""Metrics of the web port's connections."""

from __future__ import annotations

from modelhost_exporter.metrics.families import counter

CLOSED = counter(
    "web_connections_closed",
    "Connections to the web port that were refused or closed because of a limit, by reason.",
    "reason",
)
FAMILIES = (CLOSED,)

HEADER_TIMEOUT = "header_timeout"
IDLE_TIMEOUT = "idle_timeout"
BODY_TIMEOUT = "body_timeout"
SEND_TIMEOUT = "send_timeout"
TOO_LARGE_HEADERS = "too_large_headers"
TOO_LARGE_BODY = "too_large_body"
UNSENT_LIMIT = "unsent_limit"
CONNECTION_LIMIT = "connection_limit"
ADDRESS_LIMIT = "address_limit"
DESCRIPTORS = "descriptors"
REASONS = (
    *(HEADER_TIMEOUT, IDLE_TIMEOUT, BODY_TIMEOUT, SEND_TIMEOUT, TOO_LARGE_HEADERS, TOO_LARGE_BODY),
    *(UNSENT_LIMIT, CONNECTION_LIMIT, ADDRESS_LIMIT, DESCRIPTORS),
)
