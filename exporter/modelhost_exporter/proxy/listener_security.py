"""TLS and authentication of one proxied server's listener, as its configuration says."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from modelhost_exporter.proxy.authentication import Authentication
from modelhost_exporter.security import token_files
from modelhost_exporter.security.passwords import Passwords
from modelhost_exporter.security.reloaded import Reloaded
from modelhost_exporter.security.tls import build_context
from modelhost_exporter.security.tls_listener import TlsInForce
from modelhost_exporter.security.token_files import TokenFiles

if TYPE_CHECKING:
    import ssl

    from modelhost_exporter.proxy.settings import ProxiedServer, ProxyAuth
    from modelhost_exporter.security.reloaded import FilesRead
    from modelhost_exporter.security.tls_settings import TlsServer

log = logging.getLogger(__name__)


class ListenerSecurity:
    """The certificates in force, which are read again when they change, and the methods of authentication."""

    def __init__(self, server: ProxiedServer) -> None:
        """Read the files; blocks. Raises ConfigError."""
        self.tls = None if server.tls is None else ListenerTls(server.tls, server.name)
        self.authentication = _authentication(server.auth)
        """Decides about each request; None where everybody is accepted."""


class ListenerTls:
    """TLS of a listener."""

    def __init__(self, settings: TlsServer, server: str) -> None:
        """Read the certificates; blocks. Raises ConfigError."""
        self._settings = settings
        where = f"servers[{server}].proxy.tls"

        def load(files: FilesRead) -> ssl.SSLContext:
            return build_context(settings, files, where)

        self._source = Reloaded(load, f"TLS of the proxy of {server}")
        for remark in settings.remarks():
            log.warning("%s: %s", where, remark)

    def in_force(self) -> TlsInForce:
        """Return what a handshake needs, read again if a file has changed; blocks."""
        names = self._settings.client_allowed_sans if self._settings.verifies_clients else ()
        return TlsInForce(self._source.refresh(), names)


def _authentication(auth: ProxyAuth) -> Authentication | None:
    """Return the methods that are configured; None without any."""
    if not auth.is_required:
        return None
    files = TokenFiles(auth)
    methods = (Passwords(lambda: auth.basic_auth_users), *token_files.authenticators(lambda: files))
    return Authentication(methods, files.sources)
