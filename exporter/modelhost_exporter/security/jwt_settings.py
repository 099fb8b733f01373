"""The settings of JSON Web Tokens: ``web.auth.jwt``."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - read at run time, by the parser
from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003 - likewise
from typing import cast

from modelhost_exporter.config.duration import Seconds

SYMMETRIC = "HS256"
ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"),
    SYMMETRIC,
)
"""Accepted algorithms. ``none`` is never one."""
MAX_LEEWAY_SECONDS = 300.0
_CHECKED_ALWAYS = ("exp", "nbf", "iat", "iss", "aud")


@dataclass(frozen=True)
class JwtOptions:
    """Which JSON Web Tokens are accepted."""

    algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA")
    key_file: Path | None = None
    """The issuer's public key (PEM), or with HS256 the shared secret."""
    jwks_file: Path | None = None
    """A JSON Web Key Set instead: the header ``kid`` of a token names its key."""
    issuer: str | None = None
    """The value that ``iss`` must have."""
    audience: tuple[str, ...] = ()
    """Values of which ``aud`` must have one."""
    leeway: Seconds = Seconds(30.0)
    """How far the clocks may differ."""
    required_claims: Mapping[str, str] = field(default_factory=dict)
    """Further claims, each with the value that it must have, or contain if it is a list."""

    def __post_init__(self) -> None:
        if (self.key_file is None) == (self.jwks_file is None):
            raise ValueError("give key_file or jwks_file" + ("" if self.key_file is None else ", not both"))
        if not self.algorithms:
            raise ValueError("algorithms must not be empty")
        for name in self.algorithms:
            if name not in ALGORITHMS:
                raise ValueError(f"algorithms: {name!r} is not accepted; known: {', '.join(ALGORITHMS)}")
        if SYMMETRIC in self.algorithms and len(set(self.algorithms)) > 1:
            raise ValueError("algorithms: HS256 must be the only one, or a public key could be used as a shared secret")
        if self.leeway > MAX_LEEWAY_SECONDS:
            raise ValueError(f"leeway must not be longer than {MAX_LEEWAY_SECONDS:g} s: synchronize the clocks")
        for name in _CHECKED_ALWAYS:
            if name in self.required_claims:
                raise ValueError(f"required_claims: {name} is checked already: use issuer, audience and leeway")

    @property
    def file(self) -> Path:
        """The file of keys."""
        return cast("Path", self.jwks_file or self.key_file)

    @property
    def is_symmetric(self) -> bool:
        """Whether tokens are signed with a shared secret."""
        return SYMMETRIC in self.algorithms
