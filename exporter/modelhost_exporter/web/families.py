"""Metrics of the web port's connections."""

from __future__ import annotations

from modelhost_exporter.metrics.families import counter
from modelhost_exporter.process.connection_activity import BODY_TIMEOUT, HEADER_TIMEOUT, IDLE_TIMEOUT, SEND_TIMEOUT
from modelhost_exporter.process.connection_limits import ADDRESS_LIMIT, CONNECTION_LIMIT, DESCRIPTORS

CLOSED = counter(
    "web_connections_closed",
    "Connections to the web port that were refused or closed because of a limit, by reason.",
    "reason",
)
FAMILIES = (CLOSED,)

TOO_LARGE_HEADERS = "too_large_headers"
TOO_LARGE_BODY = "too_large_body"
UNSENT_LIMIT = "unsent_limit"
REASONS = (
    *(HEADER_TIMEOUT, IDLE_TIMEOUT, BODY_TIMEOUT, SEND_TIMEOUT, TOO_LARGE_HEADERS, TOO_LARGE_BODY),
    *(UNSENT_LIMIT, CONNECTION_LIMIT, ADDRESS_LIMIT, DESCRIPTORS),
)
