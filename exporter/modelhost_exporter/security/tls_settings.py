"""The settings of TLS, with the keys of exporter-toolkit's ``tls_server_config``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path  # noqa: TC003 - read at run time, by the parser
from typing import TYPE_CHECKING, Literal

from modelhost_exporter.config.parsing import SECRET

if TYPE_CHECKING:
    from collections.abc import Collection

ClientAuth = Literal[
    "NoClientCert",
    "RequestClientCert",
    "RequireAnyClientCert",
    "RequireClientCert",
    "VerifyClientCertIfGiven",
    "RequireAndVerifyClientCert",
]
Version = Literal["TLS10", "TLS11", "TLS12", "TLS13"]

CIPHERS = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
}
"""OpenSSL's name of each cipher suite that may be configured, by its name in Go, in the order of preference."""

TLS13_CIPHERS = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
"""Accepted in the list and always enabled: neither Go nor Python's ssl chooses among those of TLS 1.3."""

CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}
"""OpenSSL's name of each curve that may be configured, by its name in Go."""

VERIFYING = ("VerifyClientCertIfGiven", "RequireAndVerifyClientCert")
_ANY_CERTIFICATE = ("RequireAnyClientCert", "RequireClientCert")


@dataclass(frozen=True)
class TlsServer:
    """TLS of a listener. A value in a file takes precedence over one that is written inline."""

    cert: str = ""
    key: str = field(default="", repr=False, metadata=SECRET)
    client_ca: str = ""
    cert_file: Path | None = None
    key_file: Path | None = None
    client_ca_file: Path | None = None
    client_auth_type: ClientAuth | None = None
    client_allowed_sans: tuple[str, ...] = ()
    min_version: Version = "TLS12"
    max_version: Version = "TLS13"
    cipher_suites: tuple[str, ...] = ()
    prefer_server_cipher_suites: bool = True
    curve_preferences: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_names("cipher_suites", self.cipher_suites, (*CIPHERS, *TLS13_CIPHERS))
        _check_names("curve_preferences", self.curve_preferences, CURVES)
        if not self.is_enabled:
            return
        for name in ("cert", "key"):
            if not getattr(self, name) and getattr(self, f"{name}_file") is None:
                raise ValueError(f"{name}_file is missing (or {name}, with the PEM text)")
        if self.client_auth_type in _ANY_CERTIFICATE:
            raise ValueError(
                f"client_auth_type {self.client_auth_type} is not supported, since Python's ssl always verifies a"
                " certificate that it requests: use RequireAndVerifyClientCert with client_ca_file"
            )
        has_ca = bool(self.client_ca) or self.client_ca_file is not None
        if has_ca and self.client_auth_type in (None, "NoClientCert"):
            raise ValueError("client_ca_file needs client_auth_type, such as RequireAndVerifyClientCert")
        if self.min_version > self.max_version:
            raise ValueError(f"min_version {self.min_version} is above max_version {self.max_version}")

    @property
    def is_enabled(self) -> bool:
        """Whether the listener serves TLS: as in the toolkit, whether a certificate, key, CA or policy is set."""
        texts = (self.cert, self.key, self.client_ca)
        files = (self.cert_file, self.key_file, self.client_ca_file)
        return any(texts) or any(file is not None for file in files) or self.client_auth_type is not None

    @property
    def verifies_clients(self) -> bool:
        """Whether client certificates are requested and verified."""
        return self.client_auth_type in VERIFYING

    def remarks(self) -> list[str]:
        """Return one line for each setting that is accepted and has no effect, or a surprising one."""
        found = []
        if self.client_auth_type == "RequestClientCert":
            found.append(
                "client_auth_type RequestClientCert is treated as NoClientCert: nothing verifies the certificates"
            )
        if self.client_allowed_sans and not self.verifies_clients:
            found.append("client_allowed_sans has no effect without client_auth_type RequireAndVerifyClientCert")
        if self.verifies_clients and self.client_ca_file is None and not self.client_ca:
            found.append("client_ca_file is missing: no client certificate will be accepted")
        return found

    def relative_to(self, folder: Path) -> TlsServer:
        """Return the settings with relative paths joined to a folder."""
        names = ("cert_file", "key_file", "client_ca_file")
        return replace(self, **{name: folder / path for name in names if (path := getattr(self, name)) is not None})


def _check_names(key: str, given: tuple[str, ...], known: Collection[str]) -> None:
    for name in given:
        if name not in known:
            raise ValueError(f"{key}: {name!r} is unknown; known: {', '.join(known)}")
