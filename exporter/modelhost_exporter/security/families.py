"""Metrics of TLS and authentication."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Protocol

from modelhost_exporter.metrics.families import counter, gauge
from modelhost_exporter.security.tls_connection import FAILURES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client.metrics_core import Metric

RELOAD_SUCCESSFUL = gauge(
    "web_config_last_reload_successful",
    "1 when the files with TLS, passwords and tokens of the web port were read without error the last time, else 0.",
    note="Those of web.config_file and web.auth. They are read again when they change; after an error the previous"
    " content stays in force. Absent without a file.",
)
RELOAD_TIMESTAMP = gauge(
    "web_config_last_reload_success_timestamp_seconds",
    "Time when the last of these files was read without error, in seconds since 1970.",
)
CERTIFICATE_NOT_AFTER = gauge(
    "web_certificate_not_after_timestamp_seconds",
    "Time when the web port's certificate expires, in seconds since 1970.",
    note="Absent without TLS.",
)
HANDSHAKES_FAILED = counter(
    "web_tls_handshakes_failed",
    "TLS handshakes on the web port that failed, by reason.",
    "reason",
    note="plain_http: a request without TLS. protocol: no common version or cipher suite, or no TLS."
    " client_certificate: none, an invalid one, or none with an allowed name. certificate_not_trusted: the client does"
    " not accept this server's certificate. closed: the client gave up. Absent without TLS.",
)
INSECURE = gauge(
    "insecure_listener",
    "1 for a listener without authentication on an address other than loopback, else 0.",
    "listener",
    "server",
    note="listener is the address. server is the proxied server, empty for the web port. Unix sockets are not shown:"
    " their files have permissions. A client certificate that is required counts as authentication.",
)
FAMILIES = (RELOAD_SUCCESSFUL, RELOAD_TIMESTAMP, CERTIFICATE_NOT_AFTER, HANDSHAKES_FAILED, INSECURE)


class FileOutcome(Protocol):
    """The outcome of reading a file."""

    @property
    def is_current(self) -> bool:
        """Whether the last attempt succeeded."""
        ...

    @property
    def loaded_at(self) -> float:
        """When it succeeded the last time."""
        ...


class SecurityMetrics:
    """Counts of the web port's security."""

    def __init__(self) -> None:
        self._failures: Counter[str] = Counter()

    def count_failure(self, reason: str) -> None:
        """Count a handshake that failed."""
        self._failures[reason] += 1

    def collect(self, outcomes: Sequence[FileOutcome], expires_at: float | None, *, has_tls: bool) -> Iterator[Metric]:
        """Yield the families that apply."""
        if not outcomes:
            return
        yield from RELOAD_SUCCESSFUL.of(float(all(outcome.is_current for outcome in outcomes)))
        yield from RELOAD_TIMESTAMP.of(max(outcome.loaded_at for outcome in outcomes))
        yield from CERTIFICATE_NOT_AFTER.of(expires_at)
        if has_tls:
            yield from HANDSHAKES_FAILED.by([((reason,), float(self._failures[reason])) for reason in FAILURES])
