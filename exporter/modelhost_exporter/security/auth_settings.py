"""Methods of authentication in the exporter's own configuration: ``web.auth``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - read at run time, by the parser

from modelhost_exporter.config.duration import Seconds
from modelhost_exporter.security.jwt_settings import JwtOptions  # noqa: TC001 - likewise


@dataclass(frozen=True)
class TokenOptions:
    """Tokens that are accepted besides passwords: any one is enough."""

    bearer_tokens_file: Path | None = None
    """Tokens, one a line."""
    jwt: JwtOptions | None = None
    """Tokens that an issuer signs."""


@dataclass(frozen=True)
class AuthOptions(TokenOptions):
    """Who may use the web port, besides the users of ``web.config_file``."""

    session_lifetime: Seconds = Seconds(43_200.0)
    """How long a browser stays logged in."""
