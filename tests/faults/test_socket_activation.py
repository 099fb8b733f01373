"""Sockets that systemd opens and passes on, by its own program and by hand."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from modelhost_exporter.config.address import Address
from modelhost_exporter.config.parsing import ConfigError
from modelhost_exporter.process import passed_sockets
from tests.support.programs import DEADLINE_SECONDS, Program, fetch, free_port, installed, running, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

EXPORTER = (sys.executable, "-m", "modelhost_exporter", "--log.format=json", "--no-discovery")
FLAG = "--web.systemd-socket"
UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "modelhost-exporter.socket"
_FIRST = 3
_PASS = f"""
import fcntl, os, sys
high = [fcntl.fcntl(int(name), fcntl.F_DUPFD, 100) for name in sys.argv[1].split(",")]
for number, found in enumerate(high, {_FIRST}):
    os.dup2(found, number)
os.environ["LISTEN_PID"], os.environ["LISTEN_FDS"] = str(os.getpid()), str(len(high))
os.execv(sys.argv[2], sys.argv[2:])
"""


class Passed(Program):
    """An exporter that gets sockets in the way in which systemd passes them."""

    def __init__(self, sockets: Sequence[socket.socket], *arguments: str) -> None:
        moved = [os.dup(sock.fileno()) for sock in sockets]
        numbers = ",".join(map(str, moved))
        command = [sys.executable, "-c", _PASS, numbers, *EXPORTER, *arguments]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=moved,
        )
        for number in moved:
            os.close(number)
        self._follow()

    def fields_of(self, message: str) -> dict[str, Any]:
        """Return the fields of the next line with a message."""
        found: dict[str, Any] = json.loads(self.wait_for_line(lambda line: f'"msg": "{message}"' in line))
        return found


def listening(host: str = "127.0.0.1") -> socket.socket:
    """Return a socket that listens on a free port."""
    opened = socket.socket()
    opened.bind((host, 0))
    opened.listen()
    return opened


def through(path: Path, request: bytes) -> bytes:
    """Return what comes back over a Unix socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(DEADLINE_SECONDS)
        sock.connect(str(path))
        sock.sendall(request)
        received = b""
        while part := sock.recv(1 << 16):
            received += part
        return received


def test_systemds_own_program() -> None:
    """systemd-socket-activate opens the port and starts the exporter with the first connection, which is served."""
    port = free_port()
    command = [installed("systemd-socket-activate"), f"--listen=127.0.0.1:{port}", *EXPORTER, FLAG]
    with running(Program(command)) as program:
        program.wait_for_line(lambda line: "Listening on" in line)
        assert b"modelhost_build_info" in fetch(f"http://127.0.0.1:{port}/metrics")
        line = json.loads(program.wait_for_line(lambda line: '"msg": "listening"' in line))
        assert line["address"] == f"127.0.0.1:{port}"


def test_tcp_and_unix_sockets_by_hand(tmp_path: Path) -> None:
    """Both are served, configured addresses are not; the file of the Unix socket stays for the next start."""
    path, unused = tmp_path / "web.socket", free_port()
    with listening() as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(path))
        unix.listen()
        port = tcp.getsockname()[1]
        with running(Passed([tcp, unix], FLAG, f"--web.listen-address=127.0.0.1:{unused}")) as program:
            assert isinstance(program, Passed)
            assert program.fields_of("listening")["address"] == f"127.0.0.1:{port}"
            assert program.fields_of("listening")["address"] == f"unix:{path}"
            program.fields_of("ready")
            assert b"modelhost_" in fetch(f"http://127.0.0.1:{port}/metrics")
            answer = through(path, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            refused = through(path, b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
            assert refused.startswith(b"HTTP/1.1 403 ")
            with pytest.raises(OSError, match="refused"):
                socket.create_connection(("127.0.0.1", unused), DEADLINE_SECONDS)
            check = [sys.executable, "-m", "modelhost_exporter", "healthcheck", f"--web.listen-address=:{port}"]
            wait_until(lambda: subprocess.run(check, check=False).returncode == 0, "the first collection")
            assert program.process.poll() is None
        assert path.exists()


def test_a_socket_on_every_address_counts_as_one() -> None:
    """Scrapes may use any name there, as on a configured address, and the warning and the metric are the same."""
    with listening("0.0.0.0") as tcp:  # noqa: S104 - that is what this is about
        port = tcp.getsockname()[1]
        with running(Passed([tcp], FLAG)) as program:
            assert isinstance(program, Passed)
            assert program.fields_of("listening without authentication")["address"] == f"0.0.0.0:{port}"
            program.fields_of("ready")
            request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Host": "a.cluster"})
            assert f'modelhost_insecure_listener{{listener="0.0.0.0:{port}",server=""}} 1'.encode() in fetch(request)
            page = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Host": "a.cluster"})
            with pytest.raises(urllib.error.HTTPError, match="403"):
                fetch(page)


def test_sockets_and_the_flag_belong_together() -> None:
    """The flag without sockets is an error, and sockets without the flag are warned of."""
    with running(Program([*EXPORTER, FLAG])) as program:
        assert program.process.wait(DEADLINE_SECONDS) == 1
    assert "web.systemd_socket: systemd passed no socket: start the unit of the socket" in program.output()
    with listening() as tcp, running(Passed([tcp], "--web.listen-address=127.0.0.1:0")) as other:
        assert isinstance(other, Passed)
        other.fields_of("systemd passed sockets that are not used: set web.systemd_socket (--web.systemd-socket)")
        other.fields_of("ready")


def test_a_descriptor_that_is_no_listening_socket_is_an_error() -> None:
    """A datagram socket, or one that does not listen, is named with what to write in the unit."""
    for sock in (socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket()):
        with sock, running(Passed([sock], FLAG)) as program:
            assert program.process.wait(DEADLINE_SECONDS) == 2
        problem = "LISTEN_FDS: descriptor 3 is no listening stream socket: use ListenStream= and Accept=no"
        assert problem in program.output()


def test_variables_for_another_process_are_ignored() -> None:
    """They are removed all the same; a number of sockets that is none counts as none."""
    for values in (
        {"LISTEN_PID": "1", "LISTEN_FDS": "1"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x", "LISTEN_FDNAMES": "a"},
        {},
    ):
        assert passed_sockets.take(values).sockets == ()
        assert values == {}
    with pytest.raises(ConfigError, match="descriptor 3"):
        passed_sockets.take({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "999999999"})


def test_addresses_are_those_of_tcp() -> None:
    """A Unix socket has no address that a client could be told."""
    with listening() as tcp, socket.socket(socket.AF_UNIX) as unix:
        found = passed_sockets.PassedSockets([unix, tcp])
        assert found.addresses == (Address("127.0.0.1", tcp.getsockname()[1]),)


def test_the_unit_of_the_socket() -> None:
    """The example is what the exporter accepts, and names the usual address."""
    unit = UNIT.read_text()
    assert "\nListenStream=127.0.0.1:8585\n" in unit
    assert "\nAccept=no\n" in unit
