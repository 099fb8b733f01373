"""The search for engines on this machine: real servers on real ports, and processes that run one."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from modelhost_exporter.engines.local_engines import LocalEngine, LocalEngines, engine_ports, kind_at
from modelhost_exporter.linux.tcp_listeners import ListeningSocket, tcp_listeners
from tests.support.pages import pages
from tests.support.programs import free_port, wait_until
from tests.support.stand_in import standing_in

if TYPE_CHECKING:
    from collections.abc import Iterator

LISTEN = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(60)"
START = "import subprocess; subprocess.Popen([{name!r}, '-c', {code!r}, '{port}'], executable={python!r}); "


class Clock:
    """A clock that is moved by hand."""

    now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class NoProcesses:
    """A machine without processes: other tests run engines meanwhile."""

    Error = psutil.Error

    def process_iter(self) -> list[psutil.Process]:
        """Return no process."""
        return []


class Machine:
    """Listeners and kinds that a test sets; counts how often each URL is asked."""

    def __init__(self) -> None:
        self.listeners: list[ListeningSocket] | None = []
        self.kinds: dict[str, str] = {}
        self.asked: list[str] = []
        self.clock = Clock()
        self.engines = LocalEngines(
            usual={1234, 8000, 11434},
            listeners=lambda: self.listeners,
            processes=NoProcesses(),
            detect=self._detect,
            now=self.clock,
        )

    def _detect(self, url: str) -> str | None:
        self.asked.append(url)
        return self.kinds.get(url)

    def search_after(self, seconds: float) -> tuple[LocalEngine, ...]:
        """Search some time later."""
        self.clock.now += seconds
        return self.engines.search()


OLLAMA = ListeningSocket("127.0.0.1", 11434, "1")
FOUND = LocalEngine("ollama", "127.0.0.1", 11434)


@pytest.fixture
def machine() -> Machine:
    """Return a machine on which Ollama listens."""
    machine = Machine()
    machine.listeners = [OLLAMA]
    machine.kinds = {OLLAMA_URL: "ollama"}
    return machine


OLLAMA_URL = "http://127.0.0.1:11434"


def test_a_real_server_on_a_usual_port_is_found_and_leaves() -> None:
    """By its pages; what is no engine is not claimed, and one's own ports are not asked."""
    clock = Clock()
    with (
        standing_in(pages("ollama")) as ollama,
        standing_in({"/": b"hello"}) as other,
        standing_in(pages("vllm")) as own,
    ):
        ports = {ollama.port, other.port, own.port}
        engines = LocalEngines(
            usual=ports, listeners=lambda: [one for one in tcp_listeners() if one.port in ports], now=clock
        )
        assert engines.search({own.port}) == (LocalEngine("ollama", "127.0.0.1", ollama.port),)
        assert other.asked
        assert own.asked == []
    clock.now += 119
    assert len(engines.search()) == 1, "it may be starting again"
    clock.now += 1
    assert engines.search() == ()


def test_an_engine_is_asked_once(machine: Machine) -> None:
    """Its poller notices what becomes of it."""
    assert [machine.search_after(60) for _ in range(5)] == [(FOUND,)] * 5
    assert machine.asked == [OLLAMA_URL]


def test_a_restart_does_not_remove_an_engine(machine: Machine) -> None:
    """Another socket is asked again; while it does not respond yet, the engine stays for two minutes."""
    assert machine.search_after(0) == (FOUND,)
    machine.listeners = [OLLAMA._replace(inode="2")]
    machine.kinds = {}
    assert machine.search_after(60) == (FOUND,)
    machine.kinds = {OLLAMA_URL: "ollama"}
    assert machine.search_after(50) == (FOUND,)
    machine.kinds = {}
    assert machine.search_after(600) == (FOUND,)
    assert machine.asked == [OLLAMA_URL] * 3


def test_another_engine_on_the_same_port_replaces_it(machine: Machine) -> None:
    """What listens there now counts."""
    assert machine.search_after(0) == (FOUND,)
    machine.listeners, machine.kinds = [OLLAMA._replace(inode="2")], {OLLAMA_URL: "llamacpp"}
    assert machine.search_after(60) == (FOUND._replace(kind="llamacpp"),)


def test_what_is_no_engine_is_asked_less_and_less(machine: Machine) -> None:
    """After a minute, then after pauses that double up to 16 minutes; once it responds it is found."""
    machine.kinds = {}
    counts = []
    for _ in range(60):
        machine.search_after(60)
        counts.append(len(machine.asked))
    assert counts[0] == 1
    assert counts[9] <= 5
    assert counts[-1] <= 9
    machine.kinds = {OLLAMA_URL: "ollama"}
    assert any(machine.search_after(60) for _ in range(17))


def test_a_socket_that_is_new_is_asked_at_once(machine: Machine) -> None:
    """A server that was started again is tried without the pause of the one before."""
    machine.kinds = {}
    for _ in range(20):
        machine.search_after(60)
    asked = len(machine.asked)
    machine.listeners = [OLLAMA._replace(inode="2")]
    machine.search_after(60)
    assert len(machine.asked) == asked + 1


def test_ports_that_nobody_listens_on_are_not_asked(machine: Machine) -> None:
    """Nor those that are not usual."""
    machine.listeners = [OLLAMA, ListeningSocket("127.0.0.1", 5432, "3")]
    machine.search_after(0)
    assert machine.asked == [OLLAMA_URL]


def test_without_a_list_of_listeners_the_usual_ports_are_tried(machine: Machine) -> None:
    """On macOS only root sees the sockets of others; an engine that no longer responds leaves."""
    machine.listeners = None
    assert machine.search_after(0) == (FOUND,)
    assert sorted(machine.asked) == [f"http://127.0.0.1:{port}" for port in (11434, 1234, 8000)]
    assert machine.search_after(60) == (FOUND,)
    machine.kinds = {}
    machine.search_after(60)
    assert machine.search_after(120) == ()


def test_an_engine_on_an_address_of_ipv6() -> None:
    """Its URL has brackets."""
    assert LocalEngine("vllm", "::1", 8000).url == "http://[::1]:8000"


@contextlib.contextmanager
def _program(name: str, port: int, *, child: int = 0) -> Iterator[int]:
    """Run a program of this name that listens on a port, and a child that listens on another; yield its number."""
    start = START.format(name=f"{name}-runner", code=LISTEN, port=child, python=sys.executable) if child else ""
    command = [name, "-c", start + LISTEN, str(port)]
    process = subprocess.Popen(command, executable=sys.executable, start_new_session=True)
    try:
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()


def test_a_process_of_an_engine_is_found_on_any_port() -> None:
    """By its program's name and the port that it listens on."""
    port = free_port()
    with _program("/opt/bin/llama-server", port):
        wait_until(lambda: port in engine_ports(psutil), "the port of llama-server")


def test_what_an_engine_started_is_no_engine_of_its_own() -> None:
    """Ollama runs each model in a server of its own, on a random port."""
    port, child = free_port(), free_port()
    with _program("ollama", port, child=child) as pid:
        wait_until(lambda: len(psutil.Process(pid).children()) == 1, "the child")
        runner = psutil.Process(pid).children()[0]
        wait_until(lambda: bool(runner.net_connections("tcp")), "the child listens")
        wait_until(lambda: port in engine_ports(psutil), "the port of ollama")
        assert child not in engine_ports(psutil)


def test_a_server_that_hangs_up_is_no_engine() -> None:
    """Nor one that is not there."""
    with standing_in({}) as server:
        assert kind_at(server.url) is None
    assert kind_at(f"http://127.0.0.1:{free_port()}") is None
