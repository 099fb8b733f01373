"""The files of tokens and keys that a listener's configuration names, read again when they change."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from modelhost_exporter.security import bearer_tokens, jwt_keys
from modelhost_exporter.security.bearer_tokens import BearerTokens, TokenFile, authorization
from modelhost_exporter.security.jwt_tokens import JsonWebTokens
from modelhost_exporter.security.reloaded import Reloaded

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelhost_exporter.security.auth_settings import TokenOptions
    from modelhost_exporter.security.authentication import Authenticator, Credentials
    from modelhost_exporter.security.jwt_keys import JwtKeys


class TokenFiles:
    """The tokens and keys in force."""

    def __init__(self, options: TokenOptions) -> None:
        """Read the files; blocks. Raises ConfigError."""
        self.options = options
        tokens, jwt = options.bearer_tokens_file, options.jwt
        self._tokens: Reloaded[TokenFile] | None = None
        self._keys: Reloaded[JwtKeys] | None = None
        if tokens is not None:
            self._tokens = Reloaded(partial(bearer_tokens.load, tokens), "the file of bearer tokens")
        if jwt is not None:
            self._keys = Reloaded(partial(jwt_keys.load, jwt), "the file of JWT keys")

    @property
    def sources(self) -> tuple[Reloaded[Any], ...]:
        """The files, each with the outcome of its last reading."""
        return tuple(source for source in (self._tokens, self._keys) if source is not None)

    @property
    def tokens(self) -> TokenFile | None:
        """The tokens in force; None without a file."""
        return None if self._tokens is None else self._tokens.value

    @property
    def keys(self) -> JwtKeys | None:
        """The keys in force; None where no signed tokens are accepted."""
        return None if self._keys is None else self._keys.value

    def refresh(self) -> None:
        """Read again what has changed; blocks. An error keeps the last value, and is logged once."""
        for source in self.sources:
            source.refresh()


def authenticators(
    files: Callable[[], TokenFiles | None], presented: Callable[[Credentials], bytes | None] = authorization
) -> tuple[Authenticator, ...]:
    """Return the methods that accept tokens; ``files`` returns those in force, ``presented`` what a client presents."""

    def tokens() -> TokenFile | None:
        found = files()
        return None if found is None else found.tokens

    def keys() -> JwtKeys | None:
        found = files()
        return None if found is None else found.keys

    def options() -> Any:
        found = files()
        return None if found is None else found.options.jwt

    return BearerTokens(tokens, presented), JsonWebTokens(options, keys, presented)
