"""What all requests to one model server share."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import aiohttp

from modelhost_exporter.engines.kinds import AUTO
from modelhost_exporter.proxy.late_parsing import LateParsing
from modelhost_exporter.proxy.upstream import MAX_FIELD_BYTES, Upstream
from modelhost_exporter.proxy.use_count import UseCount
from modelhost_exporter.requests.model_names import ModelNames

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelhost_exporter.proxy.connections import DownstreamConnections
    from modelhost_exporter.proxy.health import ProxyHealth
    from modelhost_exporter.proxy.settings import ProxiedServer
    from modelhost_exporter.requests.metrics import RequestMetrics


@dataclass
class Target:
    """One model server: how it is reached and what is known of it."""

    settings: ProxiedServer
    upstream: Upstream
    session: aiohttp.ClientSession
    """For WebSockets."""
    metrics: RequestMetrics
    health: ProxyHealth
    connections: DownstreamConnections
    names: ModelNames
    detected_kind: Callable[[], str | None]
    """Returns the kind of the engine as polling detected it; None where it is not known."""
    late_parsing: LateParsing = field(default_factory=LateParsing)
    usage_refused: bool = False
    """The server once refused a request that asked for usage: it is not asked again."""
    uses: UseCount = field(default_factory=UseCount)
    """Entered by each request to the server."""

    @property
    def name(self) -> str:
        """The server's name in the configuration."""
        return self.settings.name

    @property
    def kind(self) -> str:
        """The engine's kind: as configured, else as detected, else 'auto'."""
        configured = self.settings.kind
        return configured if configured != AUTO else self.detected_kind() or AUTO

    async def close(self) -> None:
        """Close what is open to the server."""
        self.late_parsing.close()
        self.upstream.close()
        await self.session.close()


def target_for(
    settings: ProxiedServer,
    metrics: RequestMetrics,
    health: ProxyHealth,
    connections: DownstreamConnections,
    detected_kind: Callable[[str], str | None],
) -> Target:
    """Prepare for one server; must be called on the event loop, and closed."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=settings.connect_timeout, sock_read=settings.idle_timeout
        ),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        max_line_size=MAX_FIELD_BYTES,
        max_field_size=MAX_FIELD_BYTES,
        trust_env=False,
    )
    upstream = Upstream(settings.upstream, settings.connect_timeout, settings.idle_timeout)
    names = ModelNames(settings.max_models, settings.models)
    return Target(
        settings, upstream, session, metrics, health, connections, names, partial(detected_kind, settings.name)
    )
