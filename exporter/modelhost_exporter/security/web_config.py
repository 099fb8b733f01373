"""The web configuration file of Prometheus' exporters (``--web.config.file``), as exporter-toolkit defines it.

The same file works for node_exporter: the same keys, the same strictness, and values are converted as Go's YAML does
it. What this server cannot do is an error if ignoring it would weaken it, else it is logged.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelhost_exporter.config import yaml_file
from modelhost_exporter.config.parsing import ConfigError, mapping, parse
from modelhost_exporter.security.go_duration import from_nanoseconds, parse_go_duration
from modelhost_exporter.security.passwords import is_hash
from modelhost_exporter.security.rate_limit import RateLimit
from modelhost_exporter.security.tls import build_context, certificate_expiry
from modelhost_exporter.security.tls_settings import TlsServer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from modelhost_exporter.security.reloaded import FilesRead

log = logging.getLogger(__name__)

HEADERS: Mapping[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
"""The headers that may be set, with their values where only some are allowed."""

_SECTIONS = ("tls_server_config", "http_server_config", "basic_auth_users", "rate_limit")
_TLS_LISTS = ("client_allowed_sans", "cipher_suites", "curve_preferences")
_HTTP2_SUITES = {"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"}
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True)
class WebConfig:
    """The content of a file, with the context that was built from it."""

    tls: TlsServer = field(default_factory=TlsServer)
    context: ssl.SSLContext | None = None
    """None: plain HTTP."""
    http2: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The bcrypt hash of each user."""
    rate_limit: RateLimit = field(default_factory=RateLimit)
    expires_at: float | None = None
    """When the certificate expires, in seconds since 1970; None without one."""

    def notes(self) -> list[str]:
        """Return one line for everything that is not done, which weakens nothing."""
        if self.context is not None and self.http2:
            return ["http2: this server has HTTP/1.1 only, which every client accepts"]
        return []

    def remarks(self) -> list[str]:
        """Return one line for everything that has no effect, or a surprising one."""
        found = self.tls.remarks()
        if self.rate_limit.interval > 0 and self.rate_limit.burst < 1:
            found.append("rate_limit.burst is 0: every request is refused")
        return found


def load(file: Path, files: FilesRead) -> WebConfig:
    """Read a file and the certificates that it names; raises ConfigError, which names the file and the key."""
    files.note(file)
    raw = yaml_file.read_text(file)
    try:
        return _config(raw, file.parent, files)
    except ConfigError as error:
        where = f"{file}: {error.where}".removesuffix(": ")
        raise ConfigError(where, error.problem.partition(", not ")[0]) from error  # the value may be a secret


def _config(raw: object, folder: Path, files: FilesRead) -> WebConfig:
    sections = mapping(_SECTIONS, raw, "")
    tls = _tls(sections.get("tls_server_config")).relative_to(folder)
    http2, headers = _http(sections.get("http_server_config"))
    users = _users(sections.get("basic_auth_users"))
    limit = _rate_limit(sections.get("rate_limit"))
    if not tls.is_enabled:
        return WebConfig(tls, None, http2, headers, users, limit)
    _check_http2(tls, http2=http2)
    context = build_context(tls, files)
    return WebConfig(tls, context, http2, headers, users, limit, certificate_expiry(tls, files))


def _tls(raw: object) -> TlsServer:
    where = "tls_server_config"
    given = mapping(TlsServer.__dataclass_fields__, raw, where)
    values = {key: _tls_value(key, value, f"{where}.{key}") for key, value in given.items()}
    return parse(TlsServer, {key: value for key, value in values.items() if value not in (None, "")}, where)


def _tls_value(key: str, raw: object, where: str) -> object:
    if key in _TLS_LISTS:
        return _texts(raw, where)
    if key == "prefer_server_cipher_suites":
        return _boolean(raw, where, default=False)
    return _text(raw, where)


def _http(raw: object) -> tuple[bool, Mapping[str, str]]:
    where = "http_server_config"
    given = mapping(("http2", "headers"), raw, where)
    headers = _text_mapping(given.get("headers"), f"{where}.headers", HEADERS)
    for name, value in headers.items():
        allowed = HEADERS[name]
        if allowed and value not in allowed:
            raise ConfigError(f"{where}.headers.{name}", f"must be {' or '.join(allowed)}, not {value!r}")
        if _CONTROL.search(value):
            raise ConfigError(f"{where}.headers.{name}", "must be one line without control characters")
    http2 = _boolean(given["http2"], f"{where}.http2", default=False) if "http2" in given else True
    return http2, {name: value for name, value in headers.items() if value}


def _users(raw: object) -> Mapping[str, str]:
    where = "basic_auth_users"
    users = _text_mapping(raw, where, None)
    for number, hashed in enumerate(users.values(), 1):
        if not is_hash(hashed):
            raise ConfigError(
                where, f"the password of user {number} is not a bcrypt hash, such as htpasswd -nBC 10 prints"
            )
    return users


def _rate_limit(raw: object) -> RateLimit:
    where = "rate_limit"
    given = mapping(("interval", "burst"), raw, where)
    interval = _converted(given.get("interval"), f"{where}.interval", _interval)
    burst = _converted(given.get("burst"), f"{where}.burst", _whole_number)
    return RateLimit(float(interval), int(burst))


def _check_http2(tls: TlsServer, *, http2: bool) -> None:
    """Refuse what Go refuses: HTTP/2 over TLS 1.2 needs one of two suites."""
    needs = http2 and tls.cipher_suites and tls.min_version != "TLS13"
    if needs and not _HTTP2_SUITES & set(tls.cipher_suites):
        raise ConfigError(
            "tls_server_config.cipher_suites",
            "HTTP/2 needs TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256: add it, or set http_server_config.http2: false",
        )


def _text(raw: object, where: str) -> str:
    """Return a scalar as it was written; '' for an empty one."""
    if raw is None:
        return ""
    if not isinstance(raw, str):
        raise ConfigError(where, "must be text")
    return str(raw)


def _texts(raw: object, where: str) -> list[str]:
    if raw is None:
        return []
    if isinstance(raw, str):
        return [str(raw)]  # as in Go, one value is a list of one
    if not isinstance(raw, list):
        raise ConfigError(where, "must be a list")
    return [_text(item, f"{where}[{index}]") for index, item in enumerate(raw)]


def _text_mapping(raw: object, where: str, known: Mapping[str, object] | None) -> dict[str, str]:
    known = raw if known is None and isinstance(raw, dict) else known or {}
    given = mapping(known, raw, where)
    return {"" if key is None else str(key): _text(value, f"{where}.{key}") for key, value in given.items()}


def _boolean(raw: object, where: str, *, default: bool) -> bool:
    if raw is None:
        return default
    if not isinstance(raw, yaml_file.Scalar) or raw.kind != "bool":
        raise ConfigError(where, "must be true or false")
    return raw.lower() in ("true", "yes", "on", "y")


def _converted(raw: object, where: str, convert: Callable[[yaml_file.Scalar], float]) -> float:
    if raw is None:
        return 0
    if not isinstance(raw, yaml_file.Scalar):
        raise ConfigError(where, "must be one value")
    try:
        return convert(raw)
    except ValueError as error:
        raise ConfigError(where, str(error)) from error


def _interval(raw: yaml_file.Scalar) -> float:
    return from_nanoseconds(_whole_number(raw)) if raw.kind in ("int", "float") else parse_go_duration(raw)


def _whole_number(raw: yaml_file.Scalar) -> int:
    if raw.kind not in ("int", "float") or len(raw) > _MAX_DIGITS:
        raise ValueError(f"{raw[:_MAX_DIGITS]!r} is not a whole number")
    number = float(raw.replace("_", "")) if raw.kind == "float" else float(int(raw.replace("_", ""), 0))
    if not -_MAX_NUMBER < number < _MAX_NUMBER:
        raise ValueError(f"{raw!r} is out of range")
    return int(number)


_MAX_DIGITS, _MAX_NUMBER = 24, 2**63
