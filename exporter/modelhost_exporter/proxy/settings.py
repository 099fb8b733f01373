"""What a proxied server can be told in the configuration."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - read at run time, by the parser
from dataclasses import dataclass, field
from typing import Literal

from modelhost_exporter.config.address import Address
from modelhost_exporter.config.duration import Seconds
from modelhost_exporter.config.http_url import ServerUrl
from modelhost_exporter.config.parsing import CHOICES
from modelhost_exporter.engines import kinds
from modelhost_exporter.requests.slo import Objectives

_TEXT_FORM = "NAME=LISTEN=UPSTREAM, such as ollama=127.0.0.1:8434=http://127.0.0.1:11434"


@dataclass(frozen=True)
class ProxyServer:
    """One model server that is watched: clients talk to ``listen``, and reach ``upstream``."""

    name: str
    listen: Address
    upstream: ServerUrl
    kind: str = field(default=kinds.AUTO, metadata={CHOICES: kinds.choices})
    """What the server is; 'auto' is not known."""
    usage: Literal["auto", "off"] = "auto"
    """'auto' asks an OpenAI stream for its token usage where the client did not and ``kind`` is known to accept it."""
    max_models: int = 64
    inspect_bytes: int = 1 << 20
    """A request body up to this size is looked at; a larger one is forwarded unseen."""
    connect_timeout: Seconds = Seconds(10.0)
    idle_timeout: Seconds | None = None
    """Give up when the server sends nothing for this long; None: wait as long as the client does."""
    objectives: Objectives = field(default_factory=Objectives)
    models: Mapping[str, Objectives] = field(default_factory=dict)
    """Objectives of single models, instead of the server's."""

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("name must not be empty")
        if self.max_models < 1:
            raise ValueError("max_models must be at least 1")
        if self.inspect_bytes < 0:
            raise ValueError("inspect_bytes must not be negative")

    @classmethod
    def from_text(cls, text: str) -> ProxyServer:
        """Parse ``NAME=LISTEN=UPSTREAM``; ValueError for anything else."""
        name, listen, upstream = (*text.split("=", 2), "", "")[:3]
        if not (name and listen and upstream):
            raise ValueError(f"{text!r} is not {_TEXT_FORM}")
        return cls(name, Address.from_text(listen), ServerUrl.from_text(upstream))

    def objectives_of(self, model: str) -> Objectives:
        """Return what is promised for a model."""
        return self.models.get(model, self.objectives)


@dataclass(frozen=True)
class ProxySettings:
    """Every proxied server."""

    servers: tuple[ProxyServer, ...] = ()

    def __post_init__(self) -> None:
        for key in ("name", "listen"):
            values = [getattr(server, key) for server in self.servers]
            twice = {str(value) for value in values if values.count(value) > 1 and not str(value).endswith(":0")}
            if twice:
                raise ValueError(f"two servers have the {key} {', '.join(sorted(twice))}")
