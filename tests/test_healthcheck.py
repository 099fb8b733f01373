"""Whether an exporter is ready: its own page for that, and the command that container engines call."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import bcrypt
import pytest

from modelhost_exporter import threads
from modelhost_exporter.process import health_socket
from modelhost_exporter.scraping.readiness import Readiness
from modelhost_exporter.scraping.scrape import Scrape
from tests.support.certificates import Authority
from tests.support.fakes import Fixed, Hanging, Raising, family
from tests.support.programs import DEADLINE_SECONDS, free_port, wait_until

if TYPE_CHECKING:
    from tests.conftest import StartExporter
    from tests.support.programs import Exporter

COMMAND = [sys.executable, "-m", "modelhost_exporter", "healthcheck"]
READY = "modelhost-exporter is ready.\n"
_NOBODY = 65534


def check(*arguments: str, **environment: str) -> tuple[int, str]:
    """Return the exit code of a health check and the line that it prints."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert (done.stdout + done.stderr).count("\n") == 1
    return done.returncode, done.stdout or done.stderr


def _port(exporter: Exporter) -> int:
    return int(exporter.address.rpartition(":")[2])


def _ready(exporter: Exporter) -> Exporter:
    wait_until(lambda: check(f"--web.listen-address=:{_port(exporter)}")[0] == 0, "the first collection")
    return exporter


def test_the_command_finds_the_exporter_by_its_configuration(start_exporter: StartExporter, tmp_path: Path) -> None:
    """The port is in a flag, the file, or the environment; other flags of the exporter have no effect."""
    port = _port(_ready(start_exporter()))
    file = tmp_path / "config.yaml"
    file.write_text(f'web: {{listen_addresses: ["127.0.0.1:{port}", ":1"]}}\n')
    assert check(f"--web.listen-address=:{port}", "--path.rootfs=/host", "--no-discovery") == (0, READY)
    assert check(f"--config.file={file}", MODELHOST_LISTEN_ADDRESS=":1") == (0, READY)
    assert check(MODELHOST_LISTEN_ADDRESS=f":{port},:1") == (0, READY)
    file.write_text("{}")
    assert check(f"--config.file={file}", MODELHOST_LISTEN_ADDRESS=f":{port}") == (0, READY)


def test_the_command_needs_no_certificate_and_no_password(start_exporter: StartExporter, tmp_path: Path) -> None:
    """An exporter whose clients must have both is found ready, without any failed handshake or authentication."""
    authority = Authority(tmp_path)
    pair = authority.issue("server")
    file = tmp_path / "web.yml"
    hashed = bcrypt.hashpw(b"secret", b"$2b$04$abcdefghijklmnopqrstuu").decode()
    file.write_text(
        f"""
tls_server_config:
  cert_file: {pair.certificate}
  key_file: {pair.key}
  client_ca_file: {authority.certificate}
  client_auth_type: RequireAndVerifyClientCert
basic_auth_users: {{ada: {hashed}}}
"""
    )
    exporter = start_exporter(f"--web.config.file={file}")
    port = int(exporter.url.split(":")[2].partition("/")[0])
    wait_until(lambda: check(f"--web.listen-address=:{port}")[0] == 0, "the first collection")
    exporter.stop()
    assert not [line for line in exporter.lines if "handshake" in line or "refused" in line]


def test_the_command_says_what_is_wrong(start_exporter: StartExporter, tmp_path: Path) -> None:
    """No exporter, one that was stopped, and a configuration that is none: one line each."""
    port = free_port()
    missing = f"no exporter of this user listens on port {port}\n"
    assert check(f"--web.listen-address=:{port}") == (1, missing)
    exporter = _ready(start_exporter())
    address = f"--web.listen-address=:{_port(exporter)}"
    exporter.stop()
    assert check(address)[0] == 1
    file = tmp_path / "config.yaml"
    file.write_text("web: {listen: 1}")
    code, line = check(f"--config.file={file}")
    assert (code, line.startswith("web: unknown key 'listen'")) == (2, True)
    assert check("--web.listen-address=here")[0] == 2


def test_an_exporter_that_hangs_is_not_healthy(start_exporter: StartExporter) -> None:
    """A process that is stopped by a signal accepts connections, and does not respond."""
    exporter = _ready(start_exporter())
    exporter.process.send_signal(19)  # SIGSTOP
    try:
        found = check(f"--web.listen-address=:{_port(exporter)}", "--timeout=0.3")
    finally:
        exporter.process.send_signal(18)  # SIGCONT
    assert found == (1, f"the exporter on port {_port(exporter)} did not respond within 0.3 s\n")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_other_users_are_not_served(start_exporter: StartExporter) -> None:
    """A process of another user that knows the socket's name is disconnected without a response."""
    exporter = _ready(start_exporter())
    client = (
        f"import os, socket; os.setuid({_NOBODY}); s = socket.socket(socket.AF_UNIX);"
        f" s.connect({health_socket.name(os.getuid(), _port(exporter))!r});"
        " s.sendall(b'GET /metrics HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n'); print(s.recv(99))"
    )
    done = subprocess.run([sys.executable, "-c", client], capture_output=True, text=True, check=False, timeout=20)
    assert "200" not in done.stdout
    assert done.stdout == "b''\n" or "ConnectionResetError" in done.stderr or "BrokenPipeError" in done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_the_command_does_not_trust_another_users_socket() -> None:
    """A socket of the right name that another user has made is not asked."""
    port = free_port()
    server = (
        f"import os, socket; os.setuid({_NOBODY}); s = socket.socket(socket.AF_UNIX);"
        f" s.bind({health_socket.name(os.getuid(), port)!r}); s.listen(); print('bound', flush=True);"
        " s.accept()[0].recv(1)"
    )
    with subprocess.Popen([sys.executable, "-c", server], stdout=subprocess.PIPE, text=True) as squatter:
        assert squatter.stdout is not None
        assert squatter.stdout.readline() == "bound\n"
        found = check(f"--web.listen-address=:{port}")
        squatter.kill()
    assert found == (1, "the socket for health checks belongs to another user\n")


async def test_a_name_that_is_taken_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Where somebody else has the name of the socket the exporter says so, and runs without it."""
    port = free_port()
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(health_socket.name(os.getuid(), port))
        assert await health_socket.listen(asyncio.Protocol, port) is None
    assert "no socket for health checks: modelhost-exporter healthcheck will fail" in caplog.text


async def test_the_first_collection_decides() -> None:
    """Not ready while a collector runs, ready after its deadline; failures and further scrapes change nothing."""
    threads.CALLS.prepare()
    hanging, readiness = Hanging(), Readiness()
    scrape = Scrape({"fails": Raising(ValueError("a")), "hangs": hanging, "works": Fixed(family())}, 20.0)
    collecting = asyncio.ensure_future(readiness.collect_first(lambda: scrape))
    assert await asyncio.to_thread(hanging.entered.acquire, timeout=DEADLINE_SECONDS)
    assert readiness.missing == "the first collection is not over"
    hanging.release.set()
    await collecting
    assert (readiness.missing, hanging.runs) == ("", 1)
    readiness.stop()
    assert readiness.missing == "the exporter is stopping"


async def test_the_first_collection_is_not_endless() -> None:
    """A collector that never returns delays readiness by its deadline only."""
    threads.CALLS.prepare()
    hanging, readiness = Hanging(), Readiness()
    await asyncio.wait_for(readiness.collect_first(lambda: Scrape({"hangs": hanging}, 0.05)), DEADLINE_SECONDS)
    assert readiness.missing == ""
    hanging.release.set()


def test_the_image_calls_the_command() -> None:
    """Without arguments: the address is in the image's environment."""
    dockerfile = Path(__file__).parents[1].joinpath("Dockerfile").read_text()
    assert re.search(r'(?m)^HEALTHCHECK .*\\\n +CMD \["modelhost-exporter", "healthcheck"\]$', dockerfile)
