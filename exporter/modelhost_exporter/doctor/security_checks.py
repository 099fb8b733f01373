"""Read the file with TLS and passwords of the web port, and say who could connect."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from modelhost_exporter.config.parsing import ConfigError
from modelhost_exporter.doctor.findings import Finding
from modelhost_exporter.security.reloaded import FilesRead
from modelhost_exporter.security.web_config import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from modelhost_exporter.config.model import Config
    from modelhost_exporter.doctor.findings import State
    from modelhost_exporter.security.web_config import WebConfig

_DAY_SECONDS = 86_400.0
_SOON_DAYS = 14
_KIND = "security"


def check(config: Config, now: Callable[[], float] = time.time) -> Iterator[Finding]:
    """Yield a finding for the file, each of its keys without effect, and the certificate; none without a file."""
    file = config.web.config_file
    if file is None:
        return
    try:
        found = load(file, FilesRead())
    except ConfigError as error:
        yield Finding("problem", _KIND, "web port", str(error))
        return
    yield Finding("ok", _KIND, "web port", f"{file}: {_described(found)}")
    for remark in found.remarks():
        yield Finding("problem", _KIND, "web port", remark)
    if found.expires_at is not None:
        yield _certificate(found.expires_at, now())


def _described(found: WebConfig) -> str:
    parts = ["TLS" if found.context is not None else "no TLS"]
    if found.tls.verifies_clients:
        is_required = found.tls.client_auth_type == "RequireAndVerifyClientCert"
        parts.append(f"client certificates {'required' if is_required else 'accepted'}")
    count = len(found.users)
    parts.append(f"{count} user{'s' if count > 1 else ''}" if count else "no passwords")
    return ", ".join(parts)


def _certificate(expires_at: float, now: float) -> Finding:
    days = (expires_at - now) / _DAY_SECONDS
    when = time.strftime("%Y-%m-%d", time.gmtime(expires_at))
    if days < 0:
        return Finding("problem", _KIND, "certificate", f"expired on {when}: clients refuse it")
    state: State = "problem" if days < _SOON_DAYS else "ok"
    return Finding(state, _KIND, "certificate", f"valid until {when}, {days:.0f} days from now")
