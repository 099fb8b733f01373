"""The web port with TLS, passwords and headers, used by real clients."""

from __future__ import annotations

import contextlib
import http.client
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import bcrypt
import pytest

from tests.support.certificates import RSA_2048, Authority, Pair
from tests.support.programs import DEADLINE_SECONDS, Exporter, installed, running, wait_until
from tests.support.prometheus_server import running_prometheus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
USERS = f"basic_auth_users:\n  alice: {HASH}\n"
HEADERS = "http_server_config:\n  http2: false\n  headers:\n    X-Frame-Options: sameorigin\n"
WITH_PASSWORD = ("--user", "alice:secret")
NOTHING, NOT_TRUSTED = (52, 56), 60
"""Exit codes of curl: no response; a certificate that it does not trust."""

PATHS = ("/metrics", "/", "/-/healthy", "/-/ready", "/static/app.css", "/api/models", "/api/live", "/nothing")


class Site(NamedTuple):
    """A folder with a web configuration file and certificates."""

    folder: Path
    authority: Authority
    server: Pair
    client: Pair

    @property
    def file(self) -> Path:
        """The web configuration file."""
        return self.folder / "web.yml"

    def write(self, text: str) -> Path:
        """Write the file, TLS with the server's certificate included where the text begins with it."""
        self.file.write_text(text)
        return self.file

    def tls(self, *lines: str) -> str:
        """Return the section of TLS with further lines."""
        files = f"  cert_file: {self.server.certificate.name}\n  key_file: {self.server.key.name}\n"
        return "tls_server_config:\n" + files + "".join(f"  {line}\n" for line in lines)

    def requiring(self, *lines: str) -> str:
        """Return the section of TLS that requires a client certificate."""
        required = "client_auth_type: RequireAndVerifyClientCert"
        return self.tls(required, f"client_ca_file: {self.authority.certificate.name}", *lines)

    def curl(self, url: str, *options: str | Path) -> subprocess.CompletedProcess[str]:
        """Run curl, which trusts the authority; the output ends with the status."""
        trusted = ("--cacert", self.authority.certificate, "--max-time", "20")
        command = [installed("curl"), "--silent", "--include", *trusted, "--write-out", "\n%{http_code}", *options, url]
        return subprocess.run([*map(str, command)], check=False, capture_output=True, text=True, errors="replace")

    def status(self, url: str, *options: str | Path) -> int:
        """Return the status that curl receives; 0 without a response."""
        return int(self.curl(url, *options).stdout.rpartition("\n")[2])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Make certificates once."""
    folder: Path = tmp_path_factory.mktemp("site")
    authority = Authority(folder)
    client = authority.issue("client", "DNS:prometheus")
    return Site(folder, authority, authority.issue("server", key=RSA_2048), client)


@pytest.fixture
def site(prepared: Site, tmp_path: Path) -> Site:
    """Copy the certificates into a folder of the test."""
    folder = tmp_path / "site"
    shutil.copytree(prepared.folder, folder)
    pairs = (Pair(*(folder / file.name for file in pair)) for pair in (prepared.server, prepared.client))
    return Site(folder, prepared.authority, *pairs)


@contextlib.contextmanager
def exporting(site: Site, text: str, *flags: str) -> Iterator[Exporter]:
    """Run the real exporter with a web configuration file."""
    exporter = Exporter(f"--web.config.file={site.write(text)}", "--collector.disable-defaults", *flags)
    with running(exporter):
        yield exporter


def base(exporter: Exporter) -> str:
    """Return the URL without the path; for https with a name that the certificate has."""
    return exporter.url.removesuffix("/metrics")


def value(site: Site, exporter: Exporter, name: str, *options: str | Path) -> float | None:
    """Return a sample's value."""
    page = site.curl(exporter.url, *options).stdout
    found = re.search(rf"^{re.escape(name)} (\S+)$", page, re.MULTILINE)
    return None if found is None else float(found[1])


def test_every_path_needs_the_password(site: Site) -> None:
    """Without it 401, the health checks included; with it what the path has. The file's headers are on all of them."""
    with exporting(site, site.tls() + HEADERS + USERS) as exporter:
        assert exporter.url.startswith("https://")
        for path in PATHS:
            for options in ((), ("--user", "alice:wrong"), ("--user", "mallory:secret")):
                refused = site.curl(base(exporter) + path, *options).stdout.lower()
                assert refused.endswith("\n401"), path
                assert 'www-authenticate: basic realm="modelhost-exporter"' in refused
                assert "x-frame-options: sameorigin" in refused
                assert "modelhost_" not in refused
            accepted = site.curl(base(exporter) + path, *WITH_PASSWORD, "--max-time", "1").stdout.lower()
            assert accepted.endswith("\n404" if path == "/nothing" else "\n200"), path
            assert "x-frame-options: sameorigin" in accepted
        assert site.status(base(exporter) + "/-/reload", "--request", "POST") == 401
        upgrade = ("--http1.1", "--header", "Connection: Upgrade", "--header", "Upgrade: websocket")
        key = ("--header", "Sec-WebSocket-Version: 13", "--header", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
        assert site.status(exporter.url, *upgrade, *key) == 401
        assert site.status(exporter.url, *upgrade, *key, *WITH_PASSWORD, "--max-time", "1") == 101


def test_another_sites_page_gets_no_login_dialog(site: Site) -> None:
    """Its images and scripts are refused without a challenge."""
    with exporting(site, USERS) as exporter:
        from_elsewhere = ("--header", "Sec-Fetch-Site: cross-site")
        assert "www-authenticate" not in site.curl(exporter.url, *from_elsewhere).stdout.lower()


def test_the_pages_own_policy_stays_in_force(site: Site) -> None:
    """A policy of the file is sent beside it: browsers enforce both."""
    policy = 'http_server_config:\n  headers:\n    Content-Security-Policy: "default-src *"\n'
    with exporting(site, policy) as exporter:
        page = site.curl(base(exporter) + "/").stdout.lower()
        assert "content-security-policy: default-src 'none'" in page
        assert "content-security-policy: default-src *" in page
        assert "content-security-policy: default-src *" in site.curl(exporter.url).stdout.lower()


def test_a_request_without_tls_gets_an_answer(site: Site) -> None:
    """400 in words, without the rest of the program."""
    with exporting(site, site.tls()) as exporter:
        plain = site.curl(exporter.url.replace("https", "http"))
        assert plain.stdout.endswith("\n400")
        assert "use https://" in plain.stdout
        assert subprocess.run([installed("curl"), "-s", exporter.url], check=False).returncode == NOT_TRUSTED
        assert value(site, exporter, 'modelhost_web_tls_handshakes_failed_total{reason="plain_http"}') == 1


VERSIONS = ("tls1", "tls1_1", "tls1_2", "tls1_3")


@pytest.mark.parametrize(
    ("lines", "accepted"),
    [
        ((), VERSIONS[2:]),
        (("min_version: TLS13",), VERSIONS[3:]),
        (("max_version: TLS12",), VERSIONS[2:3]),
        (("min_version: TLS10",), VERSIONS),
        (("min_version: TLS10", "max_version: TLS11"), VERSIONS[:2]),
        (("cipher_suites: [TLS_AES_128_GCM_SHA256]",), VERSIONS[3:]),
    ],
)
def test_versions(site: Site, lines: tuple[str, ...], accepted: tuple[str, ...]) -> None:
    """The real openssl gets a connection with the versions that the file allows, and no other."""
    http1 = "http_server_config:\n  http2: false\n"
    with exporting(site, site.tls(*lines) + http1) as exporter:
        for version in VERSIONS:
            cipher = "DEFAULT:@SECLEVEL=0"
            assert bool(handshake(exporter, f"-{version}", "-cipher", cipher)) is (version in accepted), version


@pytest.mark.parametrize(
    ("lines", "offered", "used"),
    [
        ((), "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
        (
            ("prefer_server_cipher_suites: false",),
            "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256",
            "ECDHE-RSA-AES256-GCM-SHA384",
        ),
        (("cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA]",), "ECDHE-RSA-AES256-SHA", "ECDHE-RSA-AES256-SHA"),
        (("cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA]",), "ECDHE-RSA-AES128-GCM-SHA256", ""),
        ((), "AES128-GCM-SHA256", ""),
        ((), "DHE-RSA-AES128-GCM-SHA256", ""),
    ],
)
def test_cipher_suites(site: Site, lines: tuple[str, ...], offered: str, used: str) -> None:
    """The suites of the file, in its order or in that of the client; by default only those with forward secrecy."""
    http1 = "http_server_config:\n  http2: false\n"
    with exporting(site, site.tls(*lines) + http1) as exporter:
        assert handshake(exporter, "-tls1_2", "-cipher", offered) == used


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_curves(site: Site, version: str) -> None:
    """The one curve of the file, and no other."""
    with exporting(site, site.tls("curve_preferences: [CurveP521]")) as exporter:
        assert handshake(exporter, version, "-curves", "P-521")
        assert not handshake(exporter, version, "-curves", "X25519:P-256")


def handshake(exporter: Exporter, *options: str) -> str:
    """Return the cipher suite that a real openssl agrees on; '' if the handshake fails."""
    command = ["openssl", "s_client", "-connect", exporter.address, *options]
    result = subprocess.run(command, check=False, capture_output=True, text=True, input="", timeout=DEADLINE_SECONDS)
    found = re.search(r"Cipher is (\S+)", result.stdout)
    assert found is not None, result.stderr
    return "" if found[1] == "(NONE)" else found[1]


def test_client_certificates(site: Site) -> None:
    """Without one there is no response at all; with one the password is needed besides."""
    with exporting(site, site.requiring("client_allowed_sans: [prometheus]") + USERS) as exporter:
        presented = ("--cert", site.client.certificate, "--key", site.client.key)
        unnamed = ("--cert", site.server.certificate, "--key", site.server.key)
        assert site.curl(exporter.url, *WITH_PASSWORD).returncode in NOTHING
        assert site.curl(exporter.url, *WITH_PASSWORD, *unnamed).returncode in NOTHING
        assert site.status(exporter.url, *presented) == 401
        assert site.status(exporter.url, *presented, *WITH_PASSWORD) == 200
        failed = 'modelhost_web_tls_handshakes_failed_total{reason="client_certificate"}'
        assert value(site, exporter, failed, *presented, *WITH_PASSWORD) == 2


def test_a_real_prometheus_scrapes_it(site: Site, tmp_path: Path) -> None:
    """With https, a client certificate and a password."""
    with exporting(site, site.requiring() + USERS) as exporter:
        password = tmp_path / "password"
        password.write_text("secret\n")
        options: dict[str, Any] = {
            "scheme": "https",
            "tls_config": {
                "ca_file": str(site.authority.certificate),
                "cert_file": str(site.client.certificate),
                "key_file": str(site.client.key),
                "server_name": "localhost",
            },
            "basic_auth": {"username": "alice", "password_file": str(password)},
        }
        with running_prometheus(exporter.address, tmp_path, **options) as prometheus:
            prometheus.wait_for("up == 1")
            prometheus.wait_for("modelhost_web_config_last_reload_successful == 1")
        with running_prometheus(exporter.address, tmp_path, **{**options, "basic_auth": {}}) as prometheus:
            prometheus.wait_for("up == 0")


class Scraper:
    """Scrapes again and again in a thread, on one connection or on a new one each time."""

    def __init__(self, port: int, trusted: ssl.SSLContext, *, keep: bool) -> None:
        self.seen: set[object] = set()
        """The serial numbers of the server's certificates."""
        self.lost: list[str] = []
        self._new = partial(http.client.HTTPSConnection, "localhost", port, context=trusted, timeout=20)
        self._connection = self._new()
        self._keep = keep
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._scrape()
            except Exception as error:  # noqa: BLE001 - the test fails with each
                self.lost.append(repr(error))
            if not self._keep:
                self._connection.close()
        self._connection.close()

    def _scrape(self) -> None:
        assert _status(self._connection) == 200
        assert isinstance(self._connection.sock, ssl.SSLSocket)
        self.seen.add((self._connection.sock.getpeercert() or {})["serialNumber"])

    def has_seen(self, number: int) -> bool:
        """Return whether it has met so many certificates, or lost a scrape."""
        return len(self.seen) >= number or bool(self.lost)

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()


def test_a_rotation_under_load_loses_no_scrape(site: Site) -> None:
    """Certificate and key are replaced again and again while clients connect: each request succeeds."""
    others = [site.authority.issue(f"rotated{number}") for number in range(4)]
    with exporting(site, site.tls()) as exporter:
        port = int(exporter.address.rpartition(":")[2])
        one, two, kept = (Scraper(port, site.authority.client(), keep=number == 2) for number in range(3))
        for each in (one, kept):
            wait_until(partial(each.has_seen, 1), "the first certificate")
        for number, pair in enumerate(others):
            shutil.copy(pair.key, site.server.key)  # for a moment the key does not belong to the certificate
            shutil.copy(pair.certificate, site.server.certificate)
            wait_until(partial(one.has_seen, number + 2), "the new certificate")
        for each in (one, two, kept):
            each.stop()
        assert one.lost + two.lost + kept.lost == []
        assert len(one.seen) == 1 + len(others)
        assert len(kept.seen) == 1
        assert value(site, exporter, "modelhost_web_config_last_reload_successful") == 1


def test_an_invalid_change_keeps_what_was_there(site: Site) -> None:
    """It is a metric, and ends with the next valid one; passwords change with the next request."""
    successful = "modelhost_web_config_last_reload_successful"
    with exporting(site, site.tls() + USERS) as exporter:
        valid = site.file.read_text()
        site.write(valid + "junk: 1\n")
        assert value(site, exporter, successful, *WITH_PASSWORD) == 0
        assert exporter.wait_for_message("the web configuration file not read again: the previous one stays in force")
        site.write(valid.replace("alice", "carol"))
        assert site.status(exporter.url, *WITH_PASSWORD) == 401
        assert value(site, exporter, successful, "--user", "carol:secret") == 1


def test_tls_may_be_switched_on_and_off(site: Site) -> None:
    """Without a restart: a client that is connected without TLS is told so."""
    with exporting(site, USERS) as exporter:
        plain = http.client.HTTPConnection(exporter.address, timeout=DEADLINE_SECONDS)
        with contextlib.closing(plain):
            assert _status(plain) == 401
            site.write(site.tls() + USERS)
            assert _status(plain) == 400
        encrypted = exporter.url.replace("http:", "https:")
        assert site.status(encrypted, *WITH_PASSWORD) == 200
        site.write(USERS)
        wait_until(lambda: site.status(exporter.url, *WITH_PASSWORD) == 200, "plain HTTP again")


def _status(connection: http.client.HTTPConnection) -> int:
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    answer.read()
    return answer.status


def test_a_reload_reads_the_file_again(site: Site) -> None:
    """A reload fails as a whole if the file is invalid, and names the mistake."""
    with exporting(site, USERS, "--web.enable-lifecycle") as exporter:
        reload = (*WITH_PASSWORD, "--request", "POST")
        assert site.status(base(exporter) + "/-/reload", *reload) == 200
        site.write(USERS + "junk: 1\n")
        failed = site.curl(base(exporter) + "/-/reload", *reload).stdout
        assert failed.endswith("\n500")
        assert "unknown key 'junk'" in failed
        assert value(site, exporter, "modelhost_config_last_reload_successful", *WITH_PASSWORD) == 0
        exporter.process.send_signal(signal.SIGHUP)
        exporter.wait_for_message("configuration not reloaded")


def test_a_silent_client_is_closed_in_time(site: Site) -> None:
    """The timeout for headers covers the handshake."""
    with exporting(site, site.tls(), "--web.header-timeout=200ms") as exporter:
        host, _, port = exporter.address.rpartition(":")
        for sent in (b"", b"\x16\x03\x01\x02\x00"):
            began = time.monotonic()
            with socket.create_connection((host, int(port)), DEADLINE_SECONDS) as client:
                client.sendall(sent)
                with contextlib.suppress(ConnectionError):
                    assert client.recv(1) == b""
            assert time.monotonic() - began < DEADLINE_SECONDS / 2
        assert value(site, exporter, 'modelhost_web_connections_closed_total{reason="header_timeout"}') == 2


def test_connections_in_their_handshake_count(site: Site) -> None:
    """Those that never finish are closed for new ones, which are served."""
    with exporting(site, site.tls(), "--web.max-connections=8") as exporter:
        host, _, port = exporter.address.rpartition(":")
        with contextlib.ExitStack() as silent:
            for _ in range(30):
                silent.enter_context(socket.create_connection((host, int(port)), DEADLINE_SECONDS))
            assert site.status(exporter.url) == 200
        limit = 'modelhost_web_connections_closed_total{reason="connection_limit"}'
        assert (value(site, exporter, limit) or 0) >= 22


def test_the_rate_limit_comes_before_the_password(site: Site) -> None:
    """429 beyond the burst, with the time to wait."""
    with exporting(site, USERS + "rate_limit:\n  interval: 1h\n  burst: 3\n") as exporter:
        assert [site.status(exporter.url) for _ in range(3)] == [401] * 3
        refused = site.curl(exporter.url, *WITH_PASSWORD).stdout
        assert refused.endswith("\n429")
        assert re.search(r"(?im)^retry-after: (3600|359\d)", refused)


@pytest.mark.parametrize("flag", ["--config.check", "--web.listen-address=127.0.0.1:0"])
def test_an_invalid_file_is_one_line(site: Site, flag: str) -> None:
    """Exit code 2, whether the file is only checked or the exporter was to run."""
    file = site.write("tls_server_config:\n  cert_file: nothing.pem\n  key_file: nothing.key\n")
    command = [*Exporter.command, f"--web.config.file={file}", flag]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=DEADLINE_SECONDS)
    assert result.returncode == 2
    assert result.stderr.endswith(f"{site.folder / 'nothing.pem'}: No such file or directory\n")
    assert result.stderr.count("\n") == 1


def test_the_watchdog_needs_neither_password_nor_certificate(site: Site, tmp_path: Path) -> None:
    """Systemd is pinged although nobody could scrape without them."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(DEADLINE_SECONDS)
        notify = ("env", f"NOTIFY_SOCKET={path}", "WATCHDOG_USEC=1000000")
        file = site.write(site.requiring() + USERS)
        exporter = Exporter(f"--web.config.file={file}", under=notify)
        with running(exporter):
            pings = 0
            while pings < 3:
                pings += manager.recv(1000).count(b"WATCHDOG=1")
            assert "checks fail" not in exporter.output()
