"""What all requests to one model server share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp

from exporter.model_names import ModelNames

if TYPE_CHECKING:
    from exporter.proxy.health import ProxyHealth
    from exporter.proxy.settings import ProxyServer
    from exporter.request_metrics import RequestMetrics

# uvicorn and llama.cpp close an idle connection after 5 s: a request sent into that moment would be lost
_KEEPALIVE_SECONDS = 3.0
_CLIENT_BUFFER_BYTES = 1 << 16
MAX_FIELD_BYTES = 1 << 16
"""The longest request line or header field; the usual 8 kB are too few for some tokens."""


@dataclass
class Target:
    """One model server: how it is reached and what is known of it."""

    settings: ProxyServer
    session: aiohttp.ClientSession
    metrics: RequestMetrics
    health: ProxyHealth
    names: ModelNames
    usage_refused: bool = False
    """The server once refused a request that asked for usage: it is not asked again."""

    @property
    def name(self) -> str:
        """The server's name in the configuration."""
        return self.settings.name


def target_for(settings: ProxyServer, metrics: RequestMetrics, health: ProxyHealth) -> Target:
    """Open a client for one server; must be called on the event loop, and its session closed."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_SECONDS),
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=settings.connect_timeout, sock_read=settings.idle_timeout
        ),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        read_bufsize=_CLIENT_BUFFER_BYTES,
        max_line_size=MAX_FIELD_BYTES,
        max_field_size=MAX_FIELD_BYTES,
        trust_env=False,
    )
    session._retry_connection = False  # noqa: SLF001 - a request is never sent twice, not even a GET
    return Target(settings, session, metrics, health, ModelNames(settings.max_models))
