"""What a model server can be told in the configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping  # noqa: TC003 - read at run time, by the parser
from dataclasses import dataclass, field
from typing import Literal

from modelhost_exporter.config.duration import Seconds
from modelhost_exporter.config.http_url import ServerUrl  # noqa: TC001 - read at run time, by the parser
from modelhost_exporter.config.parsing import CHOICES, SECRET
from modelhost_exporter.engines import kinds

_FIELD_NAME = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)  # RFC 9110, section 5.1


@dataclass(frozen=True)
class Probe:
    """A tiny request on a schedule: it tells a silent server from a broken one, and costs a token each time."""

    interval: Seconds = Seconds(300.0)
    timeout: Seconds = Seconds(60.0)
    operation: Literal["chat", "text_completion", "embeddings"] = "chat"
    models: tuple[str, ...] = ()
    """Which models; none: every one that is loaded. One that the server says is not loaded is never probed."""


@dataclass(frozen=True)
class ModelServer:
    """One model server that is asked how it is."""

    name: str
    """The same name as a proxied server: both are one."""
    url: ServerUrl | None = None
    """None: the upstream of the proxied server of this name."""
    kind: str = field(default=kinds.AUTO, metadata={CHOICES: kinds.choices})
    headers: Mapping[str, str] = field(default_factory=dict, repr=False, metadata=SECRET)
    """Sent with every poll, such as Authorization; never shown."""
    timeout: Seconds = Seconds(5.0)
    metrics: Literal["auto", "on", "off"] = "auto"
    metrics_url: ServerUrl | None = None
    """The page of metrics where it is not below ``url`` (Triton: another port)."""
    max_models: int = 64
    probe: Probe | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("name must not be empty")
        if self.max_models < 1:
            raise ValueError("max_models must be at least 1")
        for name, value in self.headers.items():
            is_name = _FIELD_NAME.fullmatch(name) is not None
            if not is_name or not value.isascii() or set(value) & set("\r\n\0"):
                shown = name if is_name else "***"  # a name that is none may hold the value
                raise ValueError(f"headers: {shown!r} is not a header field of plain text")
