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
    """One server whose engine is polled, or one replica of a server with several URLs."""

    name: str
    url: ServerUrl
    upstream: str = ""
    """What distinguishes the replicas of a server; empty where it has one URL."""
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

    @property
    def key(self) -> tuple[str, str]:
        """The values of the labels ``server`` and ``upstream``."""
        return self.name, self.upstream

    @property
    def log_fields(self) -> dict[str, str]:
        """What names it in the log."""
        return {"server": self.name, "upstream": self.upstream} if self.upstream else {"server": self.name}

    @property
    def thread_name(self) -> str:
        """What names it in the names of threads."""
        return f"{self.name}-{self.upstream}" if self.upstream else self.name
