"""The doctor: one line for each thing that it checks, with what to do about a problem."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.config import model as configuration
from modelhost_exporter.doctor import collector_checks, server_checks
from modelhost_exporter.doctor.findings import Finding, table
from modelhost_exporter.engines.local_engines import LocalEngines
from modelhost_exporter.gpu.families import INFO, UP
from modelhost_exporter.linux.tcp_listeners import ListeningSocket
from modelhost_exporter.live.family_lookup import Families
from tests.support.pages import pages
from tests.support.programs import DEADLINE_SECONDS, Exporter, free_port, running
from tests.support.stand_in import standing_in, status

if TYPE_CHECKING:
    from collections.abc import Mapping

LISTEN = {"listen_addresses": ["127.0.0.1:0"]}


def _engines(*ports: int) -> LocalEngines:
    """Return a search that sees only these ports: other tests run engines meanwhile."""
    return LocalEngines(usual=ports, listeners=lambda: [ListeningSocket("127.0.0.1", port, "1") for port in ports])


def _servers(*servers: Mapping[str, object], **sections: object) -> list[Finding]:
    config = configuration.read({"web": LISTEN, "servers": list(servers), **sections})
    return list(server_checks.check(config, _engines()))


def _of(findings: list[Finding], kind: str) -> list[Finding]:
    return [finding for finding in findings if finding.kind == kind]


def test_an_engine_that_responds_is_ok() -> None:
    """With its kind, version and models."""
    with standing_in(pages("ollama")) as server:
        (found,) = _servers({"name": "a", "url": server.url})
    assert found == Finding("ok", "engine", "a", f"ollama 0.13.5 at {server.url}, 2 of 2 models loaded")


def test_an_engine_of_this_machine_is_found() -> None:
    """It is polled without configuration, unless the search is off."""
    with standing_in(pages("ollama")) as server:
        for discovery, count in ((True, 1), (False, 0)):
            config = configuration.read({"web": LISTEN, "discovery": discovery})
            found = server_checks.check(config, _engines(server.port))
            assert sum(finding.state == "ok" for finding in found) == count


@pytest.mark.parametrize(
    ("served", "extra", "said"),
    [
        ({"/v1/models": status(401)}, {}, "it requires a key"),
        ({"/": b"hello"}, {}, "it responds, and is no engine that is known"),
        ({"/": b"hello"}, {"kind": "ollama"}, "a page is missing"),
        ({"/api/ps": b"[]"}, {"kind": "ollama"}, "/api/ps"),
    ],
)
def test_a_server_that_is_no_engine(served: dict[str, object], extra: dict[str, str], said: str) -> None:
    """What it is, and what to do."""
    with standing_in(served) as server:  # type: ignore[arg-type] # pages and answers
        (found,) = _servers({"name": "a", "url": server.url, **extra})
    assert (found.state, found.name) == ("problem", "a")
    assert said in found.detail


def test_a_server_that_cannot_be_reached() -> None:
    """Nothing listens, no such name, plain HTTP where TLS was expected, no answer in time."""
    with standing_in({"/": b"hello"}) as server, socket.create_server(("127.0.0.1", 0)) as silent:
        found = _servers(
            {"name": "refused", "url": f"http://127.0.0.1:{free_port()}"},
            {"name": "unknown", "url": "http://no-such-host.invalid:80"},
            {"name": "plain", "url": server.url.replace("http", "https")},
            {"name": "silent", "url": f"http://127.0.0.1:{silent.getsockname()[1]}", "poll": {"timeout": 0.2}},
        )
    said = {finding.name: finding.detail for finding in found if finding.state == "problem"}
    assert said["refused"].startswith("nothing listens there: start it")
    assert said["unknown"].startswith("its name has no address")
    assert said["plain"].startswith("it does not speak TLS (plain HTTP?): write http://")
    assert said["silent"].startswith("it does not respond in time")


def test_without_any_engine_it_says_what_to_do() -> None:
    """Normal on a machine that serves nothing yet."""
    (found,) = _servers()
    assert (found.state, found.kind) == ("absent", "engine")
    assert "start one" in found.detail


def test_a_proxy_whose_address_is_taken() -> None:
    """By another program; a free one is ok."""
    with socket.create_server(("127.0.0.1", 0)) as taken, standing_in(pages("ollama")) as server:
        port = taken.getsockname()[1]
        found = _servers(
            {"name": "a", "url": server.url, "proxy": {"listen": f"127.0.0.1:{port}"}},
            {"name": "b", "url": server.url, "proxy": {"listen": f"127.0.0.1:{free_port()}"}},
        )
    assert [finding.state for finding in _of(found, "proxy")] == ["problem", "ok"]
    assert "in use by another program" in _of(found, "proxy")[0].detail


def test_a_proxy_that_everybody_may_use() -> None:
    """It is ok, and said; one on loopback, or with authentication, is not."""
    users = {"basic_auth_users": {"ada": "$2b$04$abcdefghijklmnopqrstuuK3Gf.Bjp1wIAsSDwZT4oDgNAvjwd0ha"}}
    with standing_in(pages("ollama")) as server:
        found = _servers(
            {"name": "a", "url": server.url, "proxy": {"listen": f":{free_port()}"}},
            {"name": "b", "url": server.url, "proxy": {"listen": f":{free_port()}", "auth": users}},
            {"name": "c", "url": server.url, "proxy": {"listen": f"127.0.0.1:{free_port()}"}},
        )
    assert ["without authentication" in finding.detail for finding in _of(found, "proxy")] == [True, False, False]


def test_an_upstream_that_is_only_proxied_is_tried() -> None:
    """A hosted API has no pages to poll."""
    refused = f"http://127.0.0.1:{free_port()}"
    found = _servers({"name": "a", "url": refused, "kind": "other", "proxy": {"listen": f"127.0.0.1:{free_port()}"}})
    assert [finding.kind for finding in found if finding.state == "problem"] == ["upstream"]


def test_the_port_of_the_web_server() -> None:
    """Free, in use by an exporter that runs, or by another program."""

    def checked(port: int) -> Finding:
        config = configuration.read({"web": {"listen_addresses": [f"127.0.0.1:{port}"]}})
        return next(server_checks.check(config, _engines()))

    assert checked(free_port()).detail == "free for the exporter"
    with running(exporter := Exporter()):
        assert checked(int(exporter.address.rpartition(":")[2])).detail == "an exporter runs there"
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert checked(other.getsockname()[1]).state == "problem"


def test_collectors() -> None:
    """What this machine has is ok, what it lacks is absent with the reason, what fails is a problem."""
    names = {"cpu": {"enabled": True}, "infiniband": {"enabled": True}, "memory": {"enabled": True}}
    config = configuration.read({"collectors": {"disable_defaults": True, **names}})
    states = {finding.name: finding for finding in collector_checks.check(config)}
    assert states["cpu"].state == states["memory"].state == "ok"
    assert states["infiniband"] == Finding("absent", "collector", "infiniband", "no InfiniBand or RoCE adapter")


def test_a_part_that_is_left_out_is_a_problem() -> None:
    """As the exporter logs it."""
    notes = collector_checks._Notes()  # the handler of the log
    record = logging.LogRecord("x", logging.WARNING, "f", 1, "a part is left out", None, None)
    record.fields = {"source": "rapl", "problem": "permission denied"}
    notes.emit(record)
    assert notes.left_out == {"rapl": "permission denied"}


def test_gpus() -> None:
    """One that responds is ok, with its name; one that does not says what to do."""
    info = ("0", "GPU-a", *("H100" if name == "name" else "" for name in INFO.labels[2:]))
    families = Families([*UP.by([(("0", "GPU-a"), 1), (("1", "GPU-b"), 0)]), *INFO.by([(info, 1)])])
    good, lost = collector_checks._gpus(families)  # without a driver no GPU can be lost
    assert good == Finding("ok", "gpu", "0", "H100")
    assert (lost.state, lost.name) == ("problem", "1")
    assert "dmesg" in lost.detail


def test_the_table_is_aligned_and_safe() -> None:
    """Secrets of URLs and characters of terminals do not pass."""
    text = table(
        [
            Finding("ok", "engine", "a", "b\x1b[31mc http://u:secret@h/"),
            Finding("problem", "collector", "cpu", "it fails\nbadly"),
        ]
    )
    lines = text.splitlines()
    assert lines[0].index("engine") == lines[1].index("collector")
    assert lines[1].endswith("it fails badly")
    assert lines[2] == "1 problem"
    assert "secret" not in text
    assert "\x1b" not in text


def test_the_command() -> None:
    """It takes the exporter's flags; exit code 1 with a problem, 2 for an invalid flag."""
    command = [
        sys.executable,
        "-m",
        "modelhost_exporter",
        "doctor",
        "--no-discovery",
        "--web.listen-address=127.0.0.1:0",
    ]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
        )

    fine = run()
    assert fine.stdout.splitlines()[-1] == "no problems", fine.stdout
    assert (fine.returncode, fine.stderr) == (0, "")
    assert any(line.split()[:3] == ["ok", "collector", "cpu"] for line in fine.stdout.splitlines())
    bad = run(f"--server=a=http://127.0.0.1:{free_port()}")
    assert (bad.returncode, bad.stdout.splitlines()[-1]) == (1, "1 problem")
    assert run("--nonsense").returncode == 2
