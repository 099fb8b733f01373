"""The settings of a proxied server, as the configuration gives them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from modelhost_exporter.requests.slo import Objectives

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelhost_exporter.config.address import Address
    from modelhost_exporter.config.http_url import ServerUrl


@dataclass(frozen=True)
class ProxiedServer:
    """One server whose requests are measured: clients connect to ``listen``, and reach ``upstream``."""

    name: str
    listen: Address
    upstream: ServerUrl
    kind: str = "auto"
    """The engine's kind; 'auto' is not known."""
    include_usage: Literal["auto", "off"] = "auto"
    max_models: int = 64
    max_inspected_body_bytes: int = 1 << 20
    connect_timeout: float = 10.0
    idle_timeout: float | None = None
    slo: Objectives = field(default_factory=Objectives)
    models: Mapping[str, Objectives] = field(default_factory=dict)
    """Objectives of single models, instead of the server's."""

    def objectives_of(self, model: str) -> Objectives:
        """Return the objectives of a model."""
        return self.models.get(model, self.slo)
