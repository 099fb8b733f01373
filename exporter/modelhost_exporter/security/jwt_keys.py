"""The keys that verify JSON Web Tokens, read from a PEM file, a file with a shared secret, or a JSON Web Key Set."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from modelhost_exporter.config.parsing import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from modelhost_exporter.security.jwt_settings import JwtOptions
    from modelhost_exporter.security.reloaded import FilesRead

MAX_KEYS = 100
MIN_SECRET_BYTES = 32
"""Shortest shared secret (RFC 7518, section 3.2)."""
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
_MAX_FILE_BYTES = 1 << 20
_PUBLIC_KEY_MARKS = (b"-----BEGIN ", b"ssh-", b"ecdsa-sha2-")
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_SECRET_MEMBERS = ("d", "p", "q")


class VerificationKey(NamedTuple):
    """A key, and the algorithms that it may verify."""

    key: Any
    algorithms: frozenset[str]
    fingerprint: bytes


@dataclass(frozen=True)
class JwtKeys:
    """The keys of a file."""

    by_id: Mapping[str | None, VerificationKey]
    """By ``kid``; None: the one of a key without."""

    def find(self, key_id: str | None, algorithm: str) -> VerificationKey | None:
        """Return the key of a token; None where there is none for its algorithm.

        A token without ``kid``, and a key file, which has none, are no reason to try several keys.
        """
        found = self.by_id.get(key_id) or self.by_id.get(None)
        if found is None and key_id is None and len(self.by_id) == 1:
            (found,) = self.by_id.values()
        return found if found is not None and algorithm in found.algorithms else None

    def has(self, fingerprint: bytes) -> bool:
        """Return whether a key is still among them."""
        return any(key.fingerprint == fingerprint for key in self.by_id.values())


def load(options: JwtOptions, files: FilesRead) -> JwtKeys:
    """Read the keys; raises ConfigError, without anything of the content."""
    content = files.content(options.file, _MAX_FILE_BYTES)
    if options.jwks_file is not None:
        return JwtKeys(_key_set(options.file, content, options))
    read = _shared_secret if options.is_symmetric else _public_key
    return JwtKeys({None: read(options.file, content, options)})


def _shared_secret(file: Path, content: bytes, options: JwtOptions) -> VerificationKey:
    secret = content.removesuffix(b"\n").removesuffix(b"\r")
    if any(mark in content for mark in _PUBLIC_KEY_MARKS):
        raise ConfigError(str(file), "has a public key, which everybody may know: HS256 needs a shared secret")
    return VerificationKey(_checked_secret(file, secret), frozenset(options.algorithms), _fingerprint(secret))


def _checked_secret(file: Path, secret: bytes) -> bytes:
    if len(secret) < MIN_SECRET_BYTES:
        least = f"HS256 needs a secret of at least {MIN_SECRET_BYTES} bytes"
        raise ConfigError(str(file), f"{least}, such as openssl rand -hex 32 prints")
    return secret


def _public_key(file: Path, content: bytes, options: JwtOptions) -> VerificationKey:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - 20 MB, only where tokens are configured
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415 - likewise
    from cryptography.x509 import load_pem_x509_certificate  # noqa: PLC0415 - likewise

    if b"PRIVATE KEY" in content:
        raise ConfigError(str(file), "has a private key: verifying needs the public key only")
    try:
        if b"-----BEGIN CERTIFICATE" in content:
            key: object = load_pem_x509_certificate(content).public_key()
        else:
            key = load_pem_public_key(content)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError(str(file), "has no public key in PEM (-----BEGIN PUBLIC KEY-----)") from None
    return _checked_key(file, key, options.algorithms, _fingerprint(content))


def _key_set(file: Path, content: bytes, options: JwtOptions) -> dict[str | None, VerificationKey]:
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError):
        raise ConfigError(str(file), "is not JSON") from None
    entries = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError(str(file), 'is no JSON Web Key Set, such as {"keys": [...]}')
    if len(entries) > MAX_KEYS:
        raise ConfigError(str(file), f"has more than {MAX_KEYS} keys")
    keys: dict[str | None, VerificationKey] = {}
    for number, entry in enumerate(entries):
        found = _entry(file, number, entry, options)
        if found is None:
            continue
        key_id = entry.get("kid")
        if key_id is not None and not isinstance(key_id, str):
            raise ConfigError(str(file), f"keys[{number}]: kid must be text")
        if key_id in keys:
            raise ConfigError(str(file), f"keys[{number}]: another key has the same kid, or lacks one too")
        keys[key_id] = found
    if not keys:
        raise ConfigError(str(file), f"has no key for {', '.join(options.algorithms)}")
    return keys


def _entry(file: Path, number: int, entry: Mapping[str, Any], options: JwtOptions) -> VerificationKey | None:
    """Return the key of an entry; None for one that verifies no token, such as one for encryption."""
    from jwt import PyJWK  # noqa: PLC0415 - only where tokens are configured
    from jwt.exceptions import PyJWTError  # noqa: PLC0415 - likewise

    operations = entry.get("key_ops", ["verify"])
    if entry.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    fitting = [name for name in options.algorithms if _fits(entry, name)]
    if not fitting:
        return None
    if not options.is_symmetric and any(member in entry for member in _SECRET_MEMBERS):
        raise ConfigError(str(file), f"keys[{number}]: is a private key: verifying needs the public key only")
    try:
        key = PyJWK(dict(entry), fitting[0]).key
    except (PyJWTError, ValueError, TypeError, KeyError, AttributeError):  # its text has the key
        raise ConfigError(str(file), f"keys[{number}]: is no valid JSON Web Key") from None
    fingerprint = _fingerprint(json.dumps(entry, sort_keys=True).encode())
    if options.is_symmetric:
        return VerificationKey(_checked_secret(file, key), frozenset(fitting), fingerprint)
    return _checked_key(file, key, fitting, fingerprint)


def _fits(entry: Mapping[str, Any], algorithm: str) -> bool:
    """Return whether an entry is a key for an algorithm: its type and curve, and ``alg`` where it has one."""
    if entry.get("alg", algorithm) != algorithm:
        return False
    kind, curve = entry.get("kty"), entry.get("crv")
    if kind == "EC":
        return isinstance(curve, str) and _CURVES.get(curve) == algorithm
    if kind == "OKP":
        return algorithm == "EdDSA" and curve == "Ed25519"
    return (kind == "RSA" and algorithm in _RSA) or (kind == "oct" and algorithm == "HS256")


def _checked_key(file: Path, key: object, algorithms: Sequence[str], fingerprint: bytes) -> VerificationKey:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: PLC0415 - as above

    fitting: set[str] = set()
    if isinstance(key, rsa.RSAPublicKey):
        if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            raise ConfigError(str(file), f"an RSA key must have {MIN_RSA_BITS} to {MAX_RSA_BITS} bits")
        fitting = set(algorithms) & set(_RSA)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        names = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
        fitting = set(algorithms) & {names.get(key.curve.name, "")}
    elif isinstance(key, ed25519.Ed25519PublicKey):
        fitting = set(algorithms) & {"EdDSA"}
    if not fitting:
        raise ConfigError(str(file), f"the key's type does not fit the algorithms {', '.join(algorithms)}")
    return VerificationKey(key, frozenset(fitting), fingerprint)


def _fingerprint(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
