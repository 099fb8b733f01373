"""Settings of a polled server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from modelhost_exporter.config.duration import Seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelhost_exporter.config.http_url import ServerUrl


@dataclass(frozen=True)
class Probe:
    """A request for one token on a schedule, which distinguishes a silent server from a broken one."""

    interval: Seconds = Seconds(300.0)
    timeout: Seconds = Seconds(60.0)
    operation: Literal["chat", "text_completion", "embeddings"] = "chat"
    models: tuple[str, ...] = ()
    """Which models; none: every one that is loaded. A model that the server reports as not loaded is never probed."""


@dataclass(frozen=True)
class PolledServer:
    """One server whose engine is polled."""

    name: str
    url: ServerUrl
    kind: str = "auto"
    """The engine's kind; 'auto' is detected."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent with every poll, such as Authorization; never shown."""
    interval: float = 10.0
    timeout: float = 5.0
    metrics: Literal["auto", "on", "off"] = "auto"
    metrics_url: ServerUrl | None = None
    max_models: int = 64
    probe: Probe | None = None
