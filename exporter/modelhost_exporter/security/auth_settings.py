"""Methods of authentication in the exporter's own configuration: ``web.auth``, ``servers[].proxy.auth``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - read at run time, by the parser

from modelhost_exporter.security.jwt_settings import JwtOptions  # noqa: TC001 - likewise


@dataclass(frozen=True)
class TokenOptions:
    """Tokens that are accepted besides passwords: any one is enough."""

    bearer_tokens_file: Path | None = None
    """Tokens, one a line."""
    jwt: JwtOptions | None = None
    """Tokens that an issuer signs."""
