"""Build an ``ssl.SSLContext`` from the settings of TLS, and check the names in client certificates."""

from __future__ import annotations

import ipaddress
import re
import ssl
import warnings
from typing import TYPE_CHECKING

from modelhost_exporter.config.parsing import ConfigError
from modelhost_exporter.security import pem_files
from modelhost_exporter.security.certificate import expires_at
from modelhost_exporter.security.tls_settings import CIPHERS, CURVES, TLS13_CIPHERS, TlsServer

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from modelhost_exporter.security.reloaded import FilesRead

MAX_PEM_BYTES = 1 << 20

_VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
_OLD = ("TLS10", "TLS11")
_OLD_LEVEL = ":@SECLEVEL=0"  # OpenSSL 3 signs with SHA-1, which these versions need, at this level only
_PROTOCOLS = ["http/1.1"]
_CERTIFICATE = "-----BEGIN CERTIFICATE-----"
_ENCRYPTED = ("-----BEGIN ENCRYPTED PRIVATE KEY-----", "Proc-Type: 4,ENCRYPTED")
_REASON = re.compile(r"\] ([^(]*)")


def build_context(settings: TlsServer, files: FilesRead, where: str = "tls_server_config") -> ssl.SSLContext:
    """Return the context of a listener; reads files, and raises ConfigError for settings that cannot be honoured."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(_PROTOCOLS)
    _set_versions(context, settings)
    _set_ciphers(context, settings, where)
    _set_curves(context, settings, where)
    _load_certificate(context, settings, files, where)
    _verify_clients(context, settings, files, where)
    return context


def _set_versions(context: ssl.SSLContext, settings: TlsServer) -> None:
    lowest = settings.min_version
    if not _tls12_suites(settings):
        lowest = max(lowest, "TLS13")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TLS 1.0 and 1.1, which the file asks for
        context.minimum_version = _VERSIONS[lowest]
        context.maximum_version = _VERSIONS[settings.max_version]


def _tls12_suites(settings: TlsServer) -> list[str]:
    """Return OpenSSL's names of the suites of TLS 1.2 and before."""
    return [CIPHERS[name] for name in settings.cipher_suites or CIPHERS if name in CIPHERS]


def _set_ciphers(context: ssl.SSLContext, settings: TlsServer, where: str) -> None:
    suites = _tls12_suites(settings)
    if not suites and settings.max_version != "TLS13":
        only = ", ".join(TLS13_CIPHERS)
        raise ConfigError(
            f"{where}.cipher_suites", f"no suite for max_version {settings.max_version}: {only} are TLS 1.3's"
        )
    level = _OLD_LEVEL if settings.min_version in _OLD else ""
    try:
        context.set_ciphers(":".join(suites or CIPHERS.values()) + level)
    except ssl.SSLError as error:
        raise ConfigError(f"{where}.cipher_suites", f"this OpenSSL has none of them: {reason(error)}") from error
    if settings.prefer_server_cipher_suites:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE


def _set_curves(context: ssl.SSLContext, settings: TlsServer, where: str) -> None:
    curves = list(dict.fromkeys(CURVES[name] for name in settings.curve_preferences))
    if not curves:
        return
    if hasattr(context, "set_groups"):  # Python 3.15
        context.set_groups(":".join(curves))
    elif len(curves) > 1:
        raise ConfigError(
            f"{where}.curve_preferences",
            "this Python cannot restrict TLS to several curves (3.15 can): name one, or remove the key",
        )
    else:
        try:
            context.set_ecdh_curve(curves[0])
        except (ValueError, ssl.SSLError) as error:
            raise ConfigError(f"{where}.curve_preferences", f"this OpenSSL has no {curves[0]}") from error


def _load_certificate(context: ssl.SSLContext, settings: TlsServer, files: FilesRead, where: str) -> None:
    certificate, certificate_place = _pem(settings.cert_file, settings.cert, files, f"{where}.cert")
    key, key_place = _pem(settings.key_file, settings.key, files, f"{where}.key")
    if _CERTIFICATE not in certificate:
        raise ConfigError(certificate_place, f"no PEM certificate ({_CERTIFICATE})")
    if "PRIVATE KEY-----" not in key:
        raise ConfigError(key_place, "no PEM private key (-----BEGIN PRIVATE KEY-----)")
    if any(mark in key for mark in _ENCRYPTED):
        raise ConfigError(key_place, "the private key is encrypted: remove its passphrase (openssl pkey)")
    with pem_files.file_with(certificate.encode()) as first, pem_files.file_with(key.encode()) as second:
        try:
            context.load_cert_chain(first, second, password=lambda: "")
        except ssl.SSLError as error:
            if "mismatch" in str(error):
                raise ConfigError(
                    key_place, f"the key does not belong to the certificate in {certificate_place}"
                ) from error
            problem = f"cannot use certificate and key: {reason(error)}"
            raise ConfigError(certificate_place, problem) from error


def _verify_clients(context: ssl.SSLContext, settings: TlsServer, files: FilesRead, where: str) -> None:
    if settings.client_ca_file is not None or settings.client_ca:
        authorities, place = _pem(settings.client_ca_file, settings.client_ca, files, f"{where}.client_ca")
    else:
        authorities, place = "", where
    if not settings.verifies_clients:
        return
    is_required = settings.client_auth_type == "RequireAndVerifyClientCert"
    context.verify_mode = ssl.CERT_REQUIRED if is_required else ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # each certificate of the file is trusted, as in Go
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET  # else a resumed session would skip the verification
    if _CERTIFICATE in authorities:
        try:
            context.load_verify_locations(cadata=authorities)
        except (ssl.SSLError, ValueError) as error:
            raise ConfigError(
                place, f"cannot use the certificates: {reason(error) if isinstance(error, ssl.SSLError) else error}"
            ) from error


def certificate_expiry(settings: TlsServer, files: FilesRead) -> float | None:
    """Return when the certificate of a listener expires, in seconds since 1970; reads its file."""
    return expires_at(_pem(settings.cert_file, settings.cert, files, "")[0])


def _pem(file: Path | None, text: str, files: FilesRead, where: str) -> tuple[str, str]:
    """Return PEM text, and where it is from for errors."""
    if file is None:
        return text, where
    content = files.content(file, MAX_PEM_BYTES)
    return content.decode("latin-1"), str(file)


def reason(error: ssl.SSLError) -> str:
    """Return OpenSSL's words for an error, without its codes and lines of C."""
    found = _REASON.search(str(error))
    words = found[1] if found is not None and found[1].strip() else error.reason or "unknown"
    return words.strip().replace("_", " ").lower()


def is_allowed(certificate: Mapping[str, object] | None, names: Collection[str]) -> bool:
    """Return whether a client certificate has one of these subject alternative names, compared exactly."""
    found = (certificate or {}).get("subjectAltName", ())
    assert isinstance(found, tuple)  # noqa: S101 - as ssl documents it
    return any(_name(kind, value) in names for kind, value in found)


def _name(kind: str, value: str) -> str:
    """Return a name as Go writes it: an IPv6 address is shortened."""
    if kind == "IP Address":
        try:
            return str(ipaddress.ip_address(value))
        except ValueError:
            return value
    return value
