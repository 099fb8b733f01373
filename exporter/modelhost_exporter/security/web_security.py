"""TLS, authentication and limits of the web port, as its configuration file has them now."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from modelhost_exporter.logs.state_log import StateLog
from modelhost_exporter.security import token_files
from modelhost_exporter.security.auth_settings import TokenOptions
from modelhost_exporter.security.authentication import AnyOf, ClientIdentity, Refusal
from modelhost_exporter.security.families import SecurityMetrics
from modelhost_exporter.security.passwords import Passwords
from modelhost_exporter.security.rate_limit import TokenBucket
from modelhost_exporter.security.reloaded import Reloaded
from modelhost_exporter.security.tls_listener import TlsInForce, TlsListener
from modelhost_exporter.security.token_files import TokenFiles
from modelhost_exporter.security.web_config import WebConfig, load

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

    from modelhost_exporter.security.authentication import Credentials

log = logging.getLogger(__name__)

CALLED = "the web configuration file"

_OPEN = WebConfig()
_BAD_REQUEST = 400


class WebSecurity:
    """Decides about requests to the web port. Without a file, and without other methods, everything is accepted."""

    def __init__(self) -> None:
        """Begin without a file, and without tokens."""
        self._source: Reloaded[WebConfig] | None = None
        self._tokens = TokenFiles(TokenOptions())
        self._remarks: StateLog[bool] = StateLog(initial=False)
        self._bucket = TokenBucket()
        self.passwords = Passwords(lambda: self.config.users)
        self._methods = AnyOf((self.passwords, *token_files.authenticators(lambda: self._tokens)))
        self._metrics = SecurityMetrics()
        self._tls = TlsListener(self._tls_in_force, self._metrics.count_failure)

    def prepare(self, file: Path | None, auth: TokenOptions) -> Callable[[], None]:
        """Read a file, and those of tokens; blocks. Raises ConfigError. Return the function that puts them in force."""
        source = None if file is None else Reloaded(partial(load, file), CALLED)
        return partial(self._put_in_force, source, TokenFiles(auth))

    def _put_in_force(self, source: Reloaded[WebConfig] | None, tokens: TokenFiles) -> None:
        self._source, self._tokens = source, tokens
        self._log_remarks()

    @property
    def source(self) -> Reloaded[WebConfig] | None:
        """The file's content with the outcome of its last reading; None without a file."""
        return self._source

    @property
    def config(self) -> WebConfig:
        """The settings in force, as they were read last; does not block."""
        return _OPEN if self._source is None else self._source.value

    @property
    def has_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.config.context is not None

    @property
    def scheme(self) -> str:
        """The scheme of the web port's URLs."""
        return "https" if self.has_tls else "http"

    def protect(self, protocol: asyncio.Protocol) -> asyncio.Protocol:
        """Return the protocol for a new connection: with TLS if that is configured now."""
        return self._tls.protect(protocol) if self.has_tls else protocol

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of TLS and of the file."""
        sources = (*([] if self._source is None else [self._source]), *self._tokens.sources)
        yield from self._metrics.collect(sources, self.config.expires_at, has_tls=self.has_tls)

    def _tls_in_force(self) -> TlsInForce | None:
        """Return what a handshake needs, read again if a file has changed; blocks."""
        config = self.refresh()
        if config.context is None:
            return None
        names = config.tls.client_allowed_sans if config.tls.verifies_clients else ()
        return TlsInForce(config.context, names)

    @property
    def is_authenticated(self) -> bool:
        """Whether clients have to authenticate, by a password, another method or a certificate."""
        return self._methods.is_required or self.config.tls.client_auth_type == "RequireAndVerifyClientCert"

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers to add to each response."""
        return self.config.headers

    def refresh(self) -> WebConfig:
        """Return the settings, read again if a file has changed; blocks."""
        if self._source is not None:
            self._source.refresh()
            self._log_remarks()
        return self.config

    async def check(self, credentials: Credentials) -> ClientIdentity | Refusal:
        """Return who sent a request, or why it is refused, by the settings that the file has now."""
        if self._source is not None:
            before = self._source.value
            if await self._source.refreshed() is not before:
                self._log_remarks()
        for source in self._tokens.sources:
            await source.refreshed()
        if self.has_tls and not credentials.is_encrypted:  # TLS was switched on after the client had connected
            return Refusal("this port serves HTTPS: use https:// instead of http://", _BAD_REQUEST)
        refused = self._bucket.check(self.config.rate_limit)
        if refused is not None:
            return refused
        decision = self._methods.check(credentials)
        return decision if isinstance(decision, ClientIdentity | Refusal) else await decision

    def _log_remarks(self) -> None:
        """Log each remark about the file once, as long as it applies."""
        notes, remarks = self.config.notes(), self.config.remarks()
        for each in (*self._remarks.states(), *notes, *remarks):
            level = logging.WARNING if each in remarks else logging.INFO
            if self._remarks.changed(each in remarks or each in notes, each) and (each in remarks or each in notes):
                log.log(level, "%s: %s", CALLED, each)
