from __future__ import annotations

import os
import socket
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from modelhost_exporter.gpu.process_owners import LocalServer, ProcessOwners
from modelhost_exporter.gpu.processes import UNKNOWN, ProcessNames
from tests.gpu.conftest import Clock

VLLM = LocalServer("chat", port=8000)


class Process:
    """One of psutil's processes."""

    def __init__(self, pid: int, command: str, ports: tuple[int, ...] = (), parent: Process | None = None) -> None:
        self.pid = pid
        self._command = command
        self._ports = ports
        self._parent = parent

    def cmdline(self) -> list[str]:
        """Return the command line."""
        return self._command.split()

    def create_time(self) -> float:
        """Return when it was started."""
        return 1.0

    def listen(self, *ports: int) -> None:
        """Listen on these ports from now on."""
        self._ports = ports

    def parent(self) -> Process | None:
        """Return the process that started it."""
        return self._parent

    def net_connections(self, kind: str) -> list[Any]:
        """Return its listening sockets; AccessDenied for a process of another user."""
        assert kind == "tcp"
        if 0 in self._ports:
            raise psutil.AccessDenied(self.pid)
        address = [SimpleNamespace(port=port) for port in self._ports]
        return [SimpleNamespace(status=psutil.CONN_LISTEN, laddr=at) for at in address]


def owner(process: Process, *servers: LocalServer) -> str | None:
    """Return the owner of a process."""
    return ProcessOwners(servers, SimpleNamespace(Process=lambda _: process))(process.pid)


def test_a_server_is_found_by_its_port() -> None:
    """The process that listens on a configured port is that server, also where only its command line can be read."""
    assert owner(Process(1, "vllm serve m", (8000,)), LocalServer("other", 9000), VLLM) == "chat"
    assert owner(Process(1, "vllm serve m --port 8000", (0,)), VLLM) == "chat"
    assert owner(Process(1, "vllm serve m --port=8000", (0,)), VLLM) == "chat"
    assert owner(Process(1, "vllm serve m --port 80001", (0,)), VLLM) is None
    assert owner(Process(1, "train.py"), VLLM) is None


def test_a_worker_belongs_to_the_server_that_started_it() -> None:
    """The process that holds the GPU is often not the one that listens."""
    server = Process(1, "vllm serve m", (8000,))
    assert owner(Process(3, "VLLM::Worker_TP0", parent=Process(2, "VLLM::EngineCore", parent=server)), VLLM) == "chat"


@pytest.mark.parametrize(
    "starter",
    [
        "tmux new-session -d vllm serve m --port 8000",
        "tmux: server",
        "SCREEN -dm vllm serve m --port 8000",
        "/sbin/init --port 8000",
        "/usr/lib/systemd/systemd --user --port=8000",
        "/usr/bin/tini -- start.sh --port 8000",
        "bash -c vllm serve m --port 8000 & python train.py",
        "-bash",
        "/bin/zsh -i --port 8000",
        "sshd-session: me@pts/0",
    ],
)
def test_processes_of_the_same_shell_are_not_related(starter: str) -> None:
    """A shell, a terminal multiplexer or init starts unrelated programs, and is not searched."""
    assert owner(Process(3, "python train.py", parent=Process(2, starter, (8000,))), VLLM) is None


@pytest.mark.parametrize(
    "starter", ["tmux: server", "-bash", "/bin/bash --init-file /opt/shell.sh -i", "sshd-session: me@pts/0"]
)
def test_the_search_ends_at_it(starter: str) -> None:
    """Ancestors above a terminal own none of the programs started in it."""
    above = Process(1, "python notebooks.py --port 8000", (8000,))
    assert owner(Process(3, "python train.py", parent=Process(2, starter, parent=above)), VLLM) is None


def test_a_worker_started_through_a_shell_belongs_to_the_server() -> None:
    """A shell that runs one command for a server is passed over; a server that is process 1 of a container is found."""
    server = Process(1, "vllm serve m", (8000,))
    assert owner(Process(3, "worker", parent=Process(2, "/bin/sh -c worker", parent=server)), VLLM) == "chat"


def test_an_owner_is_remembered_and_a_missing_one_looked_for_again() -> None:
    """A server that listens only after a while is found then; while it runs the search is not repeated."""
    clock, process = Clock(), Process(1, "vllm serve m")
    owners = ProcessOwners([VLLM], SimpleNamespace(Process=lambda _: process), clock)
    assert owners(1) is None
    process.listen(8000)
    assert owners(1) is None
    clock.seconds += 15
    assert owners(1) == "chat"
    process.listen()
    clock.seconds += 1000
    assert owners(1) == "chat"


def test_a_process_that_is_gone_has_no_owner() -> None:
    """A process that ended, or cannot be seen, belongs to nobody."""

    def gone(pid: int) -> Process:
        raise psutil.NoSuchProcess(pid)

    assert ProcessOwners([VLLM], SimpleNamespace(Process=gone))(1) is None


class Zombie(Process):
    """A process that has ended and was not waited for, or that ends during the search."""

    def cmdline(self) -> list[str]:
        """Raise the error of a process without one."""
        raise psutil.ZombieProcess(self.pid)

    def net_connections(self, kind: str) -> list[Any]:
        """Raise the error of a process without one."""
        raise psutil.NoSuchProcess(self.pid, kind)


def test_a_zombie_has_no_owner_but_what_started_it_may_be_one() -> None:
    """The driver lists a process until it is reaped; a search for its owner must not cost the GPU's other values."""
    assert owner(Zombie(2, ""), VLLM) is None
    psutil_ = SimpleNamespace(Process=lambda _: Zombie(2, ""))
    assert ProcessNames(ProcessOwners([VLLM], psutil_), psutil_).of(2) == UNKNOWN
    assert owner(Zombie(2, "", parent=Process(1, "vllm serve m", (8000,))), VLLM) == "chat"


def test_a_process_is_inspected_once_however_many_servers_there_are() -> None:
    """Determining a process's ports reads every connection of the machine."""
    looked = []

    class Watched(Process):
        def net_connections(self, kind: str) -> list[Any]:
            looked.append(self.pid)
            return super().net_connections(kind)

    servers = [LocalServer(f"server {port}", port=port) for port in range(9000, 9008)]
    assert owner(Watched(2, "train.py", parent=Watched(1, "jupyter-lab")), *servers) is None
    assert looked == [2, 1]


def test_servers_may_change_while_processes_run() -> None:
    """A reload that adds, renames or removes a server takes effect, also for a process whose owner was known."""
    process = Process(1, "vllm serve m", (8000,))
    owners = ProcessOwners([VLLM], SimpleNamespace(Process=lambda _: process), Clock())
    assert owners(1) == "chat"
    owners.replace_servers([LocalServer("renamed", port=8000)])
    assert owners(1) == "renamed"
    owners.replace_servers([])
    assert owners(1) is None


def test_an_owner_that_is_no_server_any_more_is_not_remembered() -> None:
    """A reload during a search does not leave the old name in the cache."""
    process = Process(1, "vllm serve m", (8000,))
    times: list[float] = []

    def reloading() -> float:
        times.append(1000.0)
        if len(times) > 1:  # before that it is not yet looked for
            owners.replace_servers([LocalServer("renamed", port=8000)])
        return times[-1]

    owners = ProcessOwners([VLLM], SimpleNamespace(Process=lambda _: process), reloading)
    assert owners(1) == "chat"
    assert owners(1) == "renamed"


def test_this_very_process_is_found_by_its_port() -> None:
    """On the real machine the process that listens is found, and its memory carries the server's name."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = LocalServer("tests", port=listening.getsockname()[1])
        assert ProcessNames(ProcessOwners([server])).of(os.getpid()) == "tests"
