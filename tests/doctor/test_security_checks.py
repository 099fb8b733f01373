from __future__ import annotations

import time
from typing import TYPE_CHECKING

import bcrypt

from modelhost_exporter.config import model as configuration
from modelhost_exporter.doctor import security_checks, server_checks
from modelhost_exporter.engines.local_engines import LocalEngines
from tests.support.certificates import Authority
from tests.support.programs import Exporter, running

if TYPE_CHECKING:
    from pathlib import Path

DAY = 86_400.0
USERS = f"basic_auth_users:\n  alice: {bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}\n"


def checked(file: Path, text: str, days: float = 0) -> list[tuple[str, str, str]]:
    """Return what is found about a file, so many days from now."""
    file.write_text(text)
    config = configuration.read({"web": {"config_file": str(file)}})
    found = security_checks.check(config, lambda: time.time() + days * DAY)
    return [(finding.state, finding.name, finding.detail) for finding in found]


def test_the_file_and_the_certificate(tmp_path: Path) -> None:
    """Who may connect, what has no effect, and how long the certificate is valid (two days)."""
    pair, file = Authority(tmp_path).issue("server"), tmp_path / "web.yml"
    tls = f"tls_server_config:\n  cert_file: {pair.certificate}\n  key_file: {pair.key}\n"
    required = "  client_auth_type: RequireAndVerifyClientCert\n"
    first, missing, soon = checked(file, tls + required + USERS)
    assert first == ("ok", "web port", f"{file}: TLS, client certificates required, 1 user")
    assert missing == ("problem", "web port", "client_ca_file is missing: no client certificate will be accepted")
    assert (soon[0], soon[1]) == ("problem", "certificate")
    assert soon[2].endswith("2 days from now")
    assert checked(file, tls, days=-20)[1][0] == "ok"
    assert checked(file, tls, days=5)[1][2].startswith("expired on 2")
    assert checked(file, USERS) == [("ok", "web port", f"{file}: no TLS, 1 user")]


def test_an_invalid_file(tmp_path: Path) -> None:
    """Its mistake, in the words of the start; nothing without a file."""
    file = tmp_path / "web.yml"
    ((state, _, detail),) = checked(file, "junk: 1\n")
    assert state == "problem"
    assert detail.startswith(f"{file}: unknown key 'junk'")
    assert not list(security_checks.check(configuration.read({})))


def test_an_exporter_with_tls_or_a_password_is_recognised(tmp_path: Path) -> None:
    """The port is not in use by another program."""
    pair, file = Authority(tmp_path).issue("server"), tmp_path / "web.yml"
    tls = f"tls_server_config:\n  cert_file: {pair.certificate}\n  key_file: {pair.key}\n"
    for text in (USERS, tls):
        file.write_text(text)
        with running(exporter := Exporter(f"--web.config.file={file}", "--collector.disable-defaults")):
            config = configuration.read({"web": {"listen_addresses": [exporter.address]}})
            finding = next(server_checks.check(config, LocalEngines(usual=(), listeners=list)))
            assert finding.detail == "an exporter runs there"
