"""Options of what is kept of requests."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]{1,100}", re.IGNORECASE)
"""The name of a header (RFC 9110, section 5.1)."""
_SECRET = re.compile(r"(proxy-)?authorization|(set-)?cookie|(.*[-_])?(key|token|secret|password)", re.IGNORECASE)


@dataclass(frozen=True)
class RequestOptions:
    """What is kept of requests besides their metrics."""

    recent: bool = True
    """Whether the last requests are kept in memory, without their content."""
    client: str | None = None
    """The header with the client's address or user name, which is then kept of each request; None: nothing is."""

    def __post_init__(self) -> None:
        if self.client is None:
            return
        if not _NAME.fullmatch(self.client):
            raise ValueError(f"client: {self.client!r} is not the name of a header, such as X-Forwarded-For")
        if _SECRET.fullmatch(self.client):
            raise ValueError(f"client: {self.client} may carry a secret; use a header with an address or a user name")
