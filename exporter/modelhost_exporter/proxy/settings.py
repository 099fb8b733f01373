"""The settings of a proxied server, as the configuration gives them."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - read at run time, by the parser
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from modelhost_exporter.config.duration import Seconds
from modelhost_exporter.config.parsing import SECRET
from modelhost_exporter.proxy.balancing import LEAST_REQUESTS
from modelhost_exporter.requests.slo import Objectives
from modelhost_exporter.security.auth_settings import TokenOptions
from modelhost_exporter.security.passwords import is_hash

if TYPE_CHECKING:
    from modelhost_exporter.config.address import Address
    from modelhost_exporter.config.http_url import ServerUrl
    from modelhost_exporter.security.tls_settings import TlsServer


_MIN_HEADER_BYTES, _MAX_HEADER_BYTES = 1024, 1 << 20


@dataclass(frozen=True)
class ProxySettings:
    """What applies to the proxies of all servers."""

    drain_timeout: Seconds = Seconds(30.0)
    """How long requests in progress may take when the exporter stops; a second signal ends them at once."""
    reuse_port: bool = False
    """Share ports with another process, so that a new exporter can listen before the old one stops (SO_REUSEPORT)."""
    header_timeout: Seconds = Seconds(10.0)
    """From the first byte of a request, or the connection's start, to the end of its headers."""
    idle_timeout: Seconds = Seconds(75.0)
    """Longest time without a byte between two requests."""
    body_timeout: Seconds = Seconds(60.0)
    """Longest time between two bytes of a request's body, while the proxy reads it."""
    send_timeout: Seconds = Seconds(60.0)
    """Longest time in which the client reads no byte of what waits to be sent."""
    max_header_bytes: int = 1 << 17
    max_headers: int = 1000
    max_connections: int = 5000
    max_connections_per_address: int = 2500
    """All clients behind a gateway share one address: a quarter more than 2,000 concurrent streams."""

    def __post_init__(self) -> None:
        for key in ("max_headers", "max_connections", "max_connections_per_address"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} must be at least 1")
        if not _MIN_HEADER_BYTES <= self.max_header_bytes <= _MAX_HEADER_BYTES:
            raise ValueError(f"max_header_bytes must be between {_MIN_HEADER_BYTES} and {_MAX_HEADER_BYTES}")


@dataclass(frozen=True)
class ProxyAuth(TokenOptions):
    """How clients of one server's proxy authenticate; without any key everybody is accepted."""

    basic_auth_users: Mapping[str, str] = field(default_factory=dict, repr=False, metadata=SECRET)
    """The bcrypt hash of each user's password."""

    def __post_init__(self) -> None:
        for number, (user, hashed) in enumerate(self.basic_auth_users.items(), 1):
            if not is_hash(hashed):
                raise ValueError(
                    f"basic_auth_users: the password of user {number} is not a bcrypt hash,"
                    " such as htpasswd -nBC 10 prints"
                )
            if ":" in user:
                raise ValueError(f"basic_auth_users: the name of user {number} contains a colon")

    @property
    def is_required(self) -> bool:
        """Whether clients have to authenticate."""
        return bool(self.basic_auth_users) or self.bearer_tokens_file is not None or self.jwt is not None


@dataclass(frozen=True)
class ProxiedServer:
    """One server whose requests are measured: clients connect to ``listen``, and reach one of ``upstreams``."""

    name: str
    listen: Address
    upstreams: tuple[ServerUrl, ...]
    client_header: str | None = None
    """The header, in lower case, whose value is kept as the client of each request; None: nothing is."""
    balance: str = LEAST_REQUESTS
    """Which of several upstreams a request goes to: least_requests, prefix_hash, or header:NAME."""
    kind: str = "auto"
    """The engine's kind; 'auto' is not known."""
    include_usage: Literal["auto", "on", "off"] = "auto"
    max_models: int = 64
    max_inspected_body_bytes: int = 1 << 20
    connect_timeout: float = 10.0
    idle_timeout: float | None = None
    retry_unsafe: bool = True
    """Whether requests that are not idempotent are sent again when a kept connection was closed under them."""
    max_websocket_message_bytes: int | None = None
    allowed_hosts: frozenset[str] = frozenset()
    """Names in Host that are accepted on loopback besides this machine's; ``*`` for any."""
    upstream_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent with each request instead of the client's own headers of these names."""
    auth: ProxyAuth = field(default_factory=ProxyAuth)
    tls: TlsServer | None = None
    """TLS of the listener; None: plain HTTP."""
    slo: Objectives = field(default_factory=Objectives)
    models: Mapping[str, Objectives] = field(default_factory=dict)
    """Objectives of single models, instead of the server's."""

    @property
    def requires_authentication(self) -> bool:
        """Whether clients have to authenticate, by headers of their requests or a certificate."""
        by_certificate = self.tls is not None and self.tls.client_auth_type == "RequireAndVerifyClientCert"
        return self.auth.is_required or by_certificate

    def objectives_of(self, model: str) -> Objectives:
        """Return the objectives of a model."""
        return self.models.get(model, self.slo)
