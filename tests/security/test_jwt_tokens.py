from __future__ import annotations

import base64
import contextlib
import json
import time
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from modelhost_exporter.config.duration import Seconds
from modelhost_exporter.config.parsing import ConfigError, parse
from modelhost_exporter.security import jwt_keys
from modelhost_exporter.security.authentication import ClientIdentity, Credentials, Refusal
from modelhost_exporter.security.jwt_settings import JwtOptions
from modelhost_exporter.security.jwt_tokens import MAX_TOKEN_BYTES, JsonWebTokens
from modelhost_exporter.security.reloaded import FilesRead

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SHARED = "s3cr3t-" * 10


@cache
def private_key(kind: str) -> Any:
    """Return a private key; made once."""
    if kind.startswith("rsa"):
        return rsa.generate_private_key(public_exponent=65537, key_size=int(kind[3:] or "2048"))
    return ed25519.Ed25519PrivateKey.generate() if kind == "ed" else ec.generate_private_key(ec.SECP256R1())


def public_pem(kind: str) -> bytes:
    """Return the public key in PEM."""
    key = private_key(kind).public_key()
    found: bytes = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return found


def private_pem(kind: str) -> bytes:
    """Return the private key in PEM."""
    found: bytes = private_key(kind).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return found


def jwk(kind: str, **members: object) -> dict[str, object]:
    """Return a public key as a JSON Web Key."""
    algorithm: Any = {"rsa": RSAAlgorithm, "ec": ECAlgorithm, "ed": OKPAlgorithm}[kind]
    return {**algorithm.to_jwk(private_key(kind).public_key(), as_dict=True), **members}


def signed(
    kind: str = "rsa",
    algorithm: str = "RS256",
    headers: dict[str, object] | None = None,
    claims: Mapping[str, object] | None = None,
) -> str:
    """Return a token that expires in an hour, unless the claims say otherwise; None leaves a claim out."""
    every = {"exp": int(time.time()) + 3600, **(claims or {})}
    claims = {key: value for key, value in every.items() if value is not None}
    return jwt.encode(dict(claims), SHARED if kind == "shared" else private_key(kind), algorithm, headers)


class Issuer:
    """The settings, keys and file of an issuer."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "keys"
        self.options = JwtOptions(key_file=self.file)

    def trusting(self, content: bytes | dict[str, object], **options: Any) -> JsonWebTokens:
        """Return the method with this file."""
        self.file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        place: dict[str, Any] = {"key_file": None, "jwks_file": self.file} if isinstance(content, dict) else {}
        self.options = replace(JwtOptions(key_file=self.file), **place, **options)
        self.keys = jwt_keys.load(self.options, FilesRead())
        return JsonWebTokens(lambda: self.options, lambda: self.keys)


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    """Return an issuer whose file is not written yet."""
    return Issuer(tmp_path)


def accepts(method: JsonWebTokens, token: str | bytes) -> bool:
    """Return whether a token is accepted; anything else is a refusal."""
    given = token if isinstance(token, bytes) else token.encode()
    decision = method.check(Credentials([(b"Authorization", b"Bearer " + given)]))
    assert isinstance(decision, ClientIdentity | Refusal)
    return isinstance(decision, ClientIdentity)


def part(content: object) -> str:
    """Return a part of a token."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@pytest.mark.parametrize(("kind", "algorithm"), [("rsa", "RS256"), ("rsa", "PS512"), ("ec", "ES256"), ("ed", "EdDSA")])
def test_a_token_of_the_issuer_is_accepted(issuer: Issuer, kind: str, algorithm: str) -> None:
    """One for each type of key; a token of another key is refused."""
    method = issuer.trusting(public_pem(kind), algorithms=(algorithm,))
    token = signed(kind, algorithm)
    assert accepts(method, token)
    assert not accepts(method, token[:-8] + "AAAAAAAA")
    assert not accepts(method, ".".join((*token.split(".")[:1], part({"exp": time.time() + 9}), token.split(".")[2])))


def test_a_shared_secret_is_accepted_with_hs256_only(issuer: Issuer) -> None:
    """The end of line is not part of the secret."""
    method = issuer.trusting(SHARED.encode() + b"\n", algorithms=("HS256",))
    assert accepts(method, signed("shared", "HS256"))
    assert not accepts(method, signed("shared", "HS512"))
    assert not accepts(method, signed())


@pytest.mark.parametrize(
    ("claims", "is_accepted"),
    [
        ({}, True),
        ({"exp": None}, False),
        ({"exp": -3600}, False),
        ({"exp": -10}, True),  # within the leeway
        ({"exp": "soon"}, False),
        ({"exp": [1]}, False),
        ({"exp": float("inf")}, False),
        ({"nbf": 3600}, False),
        ({"iat": 3600}, False),
        ({"iss": "other"}, False),
        ({"iss": None}, False),
        ({"aud": "other"}, False),
        ({"aud": ["other", "modelhost"]}, True),
        ({"aud": None}, False),
        ({"groups": ["a"]}, False),
        ({"groups": "monitoring"}, True),
        ({"groups": {"monitoring": 1}}, False),
        ({"groups": None}, False),
        ({"scope": "write metrics"}, True),
        ({"scope": "metricss"}, False),
    ],
)
def test_claims_are_checked(issuer: Issuer, claims: dict[str, object], is_accepted: bool) -> None:
    """Expiry is required; issuer, audience and required claims where they are configured. Numbers count from now."""
    claims = {name: int(time.time()) + value if isinstance(value, int) else value for name, value in claims.items()}
    method = issuer.trusting(
        public_pem("rsa"),
        issuer="https://issuer.example",
        audience=("modelhost",),
        required_claims={"groups": "monitoring", "scope": "metrics"},
        leeway=Seconds(30.0),
    )
    valid = {"iss": "https://issuer.example", "aud": "modelhost", "groups": ["a", "monitoring"], "scope": "metrics"}
    assert accepts(method, signed(claims={**valid, **claims})) == is_accepted


def test_a_token_for_another_audience_is_refused_where_none_is_configured(issuer: Issuer) -> None:
    """A token that was issued for another service is not for this one."""
    assert not accepts(issuer.trusting(public_pem("rsa")), signed(claims={"aud": "other"}))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", ""])
def test_unsigned_tokens_are_never_accepted(issuer: Issuer, algorithm: str) -> None:
    """Whatever the configuration, and with any or no signature."""
    methods = [issuer.trusting(public_pem("rsa"))]
    unsigned = f"{part({'alg': algorithm})}.{part({'exp': time.time() + 9})}."
    for method in methods:
        for token in (unsigned, f"{unsigned}AAAA"):
            assert not accepts(method, token)
    with pytest.raises(ValueError, match="'none' is not accepted"):
        JwtOptions(algorithms=("none",), key_file=issuer.file)


def test_a_public_key_is_never_a_shared_secret(issuer: Issuer) -> None:
    """A token that an attacker signs with the public key by HS256 is refused, and so is such a configuration."""
    method = issuer.trusting(public_pem("rsa"))
    forged = f"{part({'alg': 'HS256'})}.{part({'exp': time.time() + 9})}"
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
        forged.encode(), public_pem("rsa")
    )
    assert not accepts(method, f"{forged}.{part(signature)}")
    with pytest.raises(ConfigError, match="has a public key, which everybody may know: HS256 needs a shared secret"):
        issuer.trusting(public_pem("rsa"), algorithms=("HS256",))
    with pytest.raises(ValueError, match="HS256 must be the only one"):
        JwtOptions(algorithms=("RS256", "HS256"), key_file=issuer.file)


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"crit": ["exp"]},
        {"kid": 1},
        {"kid": "/dev/null"},
        {"jku": "http://127.0.0.1:1/keys"},
    ],
)
def test_a_token_chooses_nothing(issuer: Issuer, header: dict[str, object]) -> None:
    """Critical extensions and unencoded payloads are refused; URLs of keys are not read."""
    method = issuer.trusting({"keys": [jwk("rsa", kid="a")]})
    forged = f"{part({'alg': 'RS256', 'kid': 'a', **header})}.{part({'exp': time.time() + 99})}"
    signature = RSAAlgorithm(RSAAlgorithm.SHA256).sign(forged.encode(), private_key("rsa"))
    assert accepts(method, f"{forged}.{part(signature)}") == ("jku" in header)


def test_the_key_of_a_set_is_named_by_the_token(issuer: Issuer) -> None:
    """By ``kid``, for the algorithms that fit the key; keys for other uses are left out."""
    method = issuer.trusting(
        {"keys": [jwk("rsa", kid="r"), jwk("ec", kid="e"), jwk("ed", kid="x", use="enc"), {"kty": "oct", "k": "AAAA"}]}
    )
    assert accepts(method, signed("rsa", headers={"kid": "r"}))
    assert accepts(method, signed("ec", "ES256", {"kid": "e"}))
    assert not accepts(method, signed("ec", "ES256", {"kid": "r"}))
    assert not accepts(method, signed("ec", "ES256"))
    assert not accepts(method, signed("ed", "EdDSA", {"kid": "x"}))
    assert accepts(issuer.trusting({"keys": [jwk("rsa", kid="r")]}), signed("rsa")), "there is one key only"


def test_a_client_is_current_until_the_token_expires_or_the_key_is_removed(issuer: Issuer) -> None:
    """What was accepted earlier ends with the key."""
    method = issuer.trusting({"keys": [jwk("rsa", kid="r")]})
    identity = method.check(Credentials([(b"Authorization", f"Bearer {signed()}".encode())]))
    assert isinstance(identity, ClientIdentity)
    assert method.is_current(identity)
    assert not method.is_current(replace(identity, expires_at=time.time() - 1))
    issuer.trusting({"keys": [jwk("ec", kid="r")]})
    assert not method.is_current(identity)


@pytest.mark.parametrize(
    ("content", "options", "problem"),
    [
        (b"", {}, "has no public key in PEM"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", {}, "has no public key in PEM"),
        (b"s3cr3t", {"algorithms": ("HS256",)}, "HS256 needs a secret of at least 32 bytes"),
        ({"keys": [{"kty": "oct", "k": "czNjcjN0"}]}, {"algorithms": ("HS256",)}, "a secret of at least 32 bytes"),
        ({"keys": []}, {}, "has no key for RS256, ES256, EdDSA"),
        ({"key": 1}, {}, "is no JSON Web Key Set"),
        ({"keys": ["s3cr3t"]}, {}, "is no JSON Web Key Set"),
        ({"keys": [{"kty": "RSA", "n": "s3cr3t"}]}, {}, "keys[0]: is no valid JSON Web Key"),
        ({"keys": [{"kty": "RSA", "n": "s3cr3t", "d": "s3cr3t"}]}, {}, "keys[0]: is a private key"),
        ({"keys": [{"kty": "RSA"}] * 101}, {}, "has more than 100 keys"),
        ({"keys": [{"kty": "EC", "crv": ["P-256"]}]}, {}, "has no key for"),
    ],
)
def test_a_mistake_in_a_file_of_keys_is_an_error(
    issuer: Issuer, content: bytes | dict[str, object], options: dict[str, Any], problem: str
) -> None:
    """In one line, without anything of the content."""
    with pytest.raises(ConfigError) as caught:
        issuer.trusting(content, **options)
    assert f"{issuer.file}: " in str(caught.value)
    assert problem in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_keys_that_are_weak_or_of_another_use_are_refused(issuer: Issuer) -> None:
    """Short RSA keys, private keys, and keys that verify none of the algorithms."""
    with pytest.raises(ConfigError, match="an RSA key must have 2048 to 8192 bits"):
        issuer.trusting(public_pem("rsa1024"))
    with pytest.raises(ConfigError, match="has a private key: verifying needs the public key only"):
        issuer.trusting(private_pem("ec"))
    with pytest.raises(ConfigError, match="the key's type does not fit the algorithms RS256"):
        issuer.trusting(public_pem("ec"), algorithms=("RS256",))
    with pytest.raises(ConfigError, match="another key has the same kid"):
        issuer.trusting({"keys": [jwk("rsa", kid="a"), jwk("ec", kid="a")]})


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ({}, "give key_file or jwks_file"),
        ({"key_file": "a", "jwks_file": "b"}, "give key_file or jwks_file, not both"),
        ({"key_file": "a", "algorithms": []}, "algorithms must not be empty"),
        ({"key_file": "a", "algorithms": ["HS512"]}, "'HS512' is not accepted"),
        ({"key_file": "a", "leeway": "6m"}, "leeway must not be longer than 300 s"),
        ({"key_file": "a", "required_claims": {"exp": "1"}}, "exp is checked already"),
        ({"key_file": "a", "required_claims": {"admin": True}}, "must be text"),
        ({"key_file": "a", "verify": False}, "unknown key 'verify'"),
    ],
)
def test_settings_that_would_weaken_the_check_are_refused(raw: dict[str, object], problem: str) -> None:
    """Each with the key and what to do."""
    with pytest.raises(ConfigError, match=r"^web\.auth\.jwt") as caught:
        parse(JwtOptions, raw, "web.auth.jwt")
    assert problem in str(caught.value)


def test_long_tokens_are_refused_before_they_are_parsed(issuer: Issuer) -> None:
    """A valid token of more than 8 KiB is refused."""
    method = issuer.trusting(public_pem("rsa"))
    assert accepts(method, signed(claims={"a": "x" * 4000}))
    assert len(signed(claims={"a": "x" * 6200})) > MAX_TOKEN_BYTES
    assert not accepts(method, signed(claims={"a": "x" * 6200}))


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=10) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["exp", "alg", "kid", "x"]), inner),
    max_leaves=6,
)
_PART = st.binary(max_size=40).map(lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"=")) | st.binary(max_size=20)
_HEADER = st.dictionaries(st.sampled_from(["alg", "kid", "crit", "typ", "b64"]), _JSON).map(
    lambda header: part({"alg": "RS256", **header}).encode()
)


@settings(deadline=None)
@given(st.tuples(_PART | _HEADER, _PART | _JSON.map(lambda claims: part(claims).encode()), _PART))
def test_no_invented_token_is_accepted_or_raises(
    tmp_path_factory: pytest.TempPathFactory, parts: tuple[bytes, bytes, bytes]
) -> None:
    """Headers, claims and signatures of any form."""
    method = Issuer(tmp_path_factory.getbasetemp()).trusting(public_pem("rsa"))
    assert not accepts(method, b".".join(parts))


@pytest.mark.parametrize("depth", [1500, 2000])
def test_deeply_nested_json_is_refused(issuer: Issuer, depth: int) -> None:
    """The parser's limit on recursion is no error of the exporter."""
    method = issuer.trusting(public_pem("rsa"))
    assert not accepts(method, f"{part(b'[' * depth)}.{part(b'{}')}.AAAA")


@settings(deadline=None)
@given(st.binary(max_size=100) | _JSON.map(lambda found: json.dumps({"keys": [found]}).encode()))
def test_any_file_of_keys_is_read_or_an_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """No content raises anything but ConfigError."""
    file = tmp_path_factory.getbasetemp() / "keys"
    file.write_bytes(content)
    for options in (JwtOptions(jwks_file=file), JwtOptions(key_file=file), JwtOptions(("HS256",), key_file=file)):
        with contextlib.suppress(ConfigError):
            jwt_keys.load(options, FilesRead())
