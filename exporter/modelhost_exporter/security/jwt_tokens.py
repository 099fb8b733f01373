"""JSON Web Tokens (``Authorization: Bearer``), verified with PyJWT (RFC 7519, RFC 8725)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from modelhost_exporter.security.authentication import ClientIdentity, Credentials, Decision, Refusal
from modelhost_exporter.security.bearer_tokens import CHALLENGE, authorization

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from modelhost_exporter.security.jwt_keys import JwtKeys
    from modelhost_exporter.security.jwt_settings import JwtOptions

METHOD = "jwt"
MAX_TOKEN_BYTES = 8192
"""Longer tokens are refused before they are parsed."""
_SEPARATORS = 2


class JsonWebTokens:
    """Authenticates clients by signed tokens."""

    challenge = CHALLENGE

    def __init__(
        self,
        options: Callable[[], JwtOptions | None],
        keys: Callable[[], JwtKeys | None],
        presented: Callable[[Credentials], bytes | None] = authorization,
    ) -> None:
        """Prepare; the functions return the settings and keys in force, and what a client presents."""
        self._options = options
        self._keys = keys
        self._presented = presented

    @property
    def is_required(self) -> bool:
        """Whether tokens are configured."""
        return self._options() is not None

    def check(self, credentials: Credentials) -> Decision:
        """Return an identity without a name, since only the issuer knows the names; a refusal for an invalid token."""
        options, keys, given = self._options(), self._keys(), self._presented(credentials)
        if options is None or keys is None or given is None:
            return None
        if len(given) > MAX_TOKEN_BYTES or given.count(b".") != _SEPARATORS:
            return Refusal("the token is not accepted", method=METHOD)
        try:
            return _verified(given, options, keys)
        except Exception:  # noqa: BLE001 - whatever a token makes the library raise, it is not accepted
            return Refusal("the token is not accepted", method=METHOD)

    def is_current(self, identity: ClientIdentity) -> bool:
        """Return whether a token that was accepted has not expired, and its key is still in the file."""
        keys = self._keys()
        if identity.method != METHOD or keys is None:
            return False
        return keys.has(identity.proof) and time.time() < identity.expires_at


def _verified(token: bytes, options: JwtOptions, keys: JwtKeys) -> Decision:
    """Return the identity; raises anything for a token that is not valid."""
    import jwt  # noqa: PLC0415 - 20 MB, only where tokens are configured

    header = jwt.get_unverified_header(token)
    algorithm, key_id = header.get("alg"), header.get("kid")
    if algorithm not in options.algorithms or "crit" in header or "b64" in header:
        raise ValueError("an algorithm or header that is not accepted")
    key = keys.find(key_id, algorithm)
    if key is None:
        raise ValueError("no such key")
    claims = jwt.decode(
        token,
        key.key,
        algorithms=[algorithm],
        issuer=options.issuer,
        audience=list(options.audience) or None,
        leeway=options.leeway,
        options={"require": _required(options), "enforce_minimum_key_length": True},
    )
    for name, value in options.required_claims.items():
        if not _has(claims, name, value):
            raise ValueError("a required claim is missing")
    return ClientIdentity("", METHOD, key.fingerprint, float(claims["exp"]) + options.leeway)


def _required(options: JwtOptions) -> list[str]:
    required = ["exp"]
    if options.issuer is not None:
        required.append("iss")
    if options.audience:
        required.append("aud")
    return required


def _has(claims: Mapping[str, Any], name: str, wanted: str) -> bool:
    """Return whether a claim has a value; one of a list, and one word of ``scope`` (RFC 8693), are enough."""
    value = claims.get(name)
    if isinstance(value, str):
        return value == wanted or (name == "scope" and wanted in value.split(" "))
    if isinstance(value, list):
        return any(isinstance(each, str) and each == wanted for each in value)
    return isinstance(value, bool | int) and str(value).lower() == wanted
