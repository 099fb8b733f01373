from __future__ import annotations

import socket
import sys
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from modelhost_exporter.engines.local_processes import LocalProcesses, is_one_of
from modelhost_exporter.gpu.process_owners import LocalServer, ProcessOwners

LISTEN = "LISTEN"


def process(pid: int, words: list[str], port: int = 0, children: tuple[Any, ...] = (), rss: int = 100) -> Any:
    """Return a stand-in for psutil's Process."""
    listening = [SimpleNamespace(status=LISTEN, laddr=SimpleNamespace(port=port))] if port else []
    made = SimpleNamespace(
        pid=pid,
        cmdline=lambda: words,
        net_connections=lambda _kind: listening,
        parent=lambda: None,
        children=lambda recursive: list(children) if recursive else [],
        memory_info=lambda: SimpleNamespace(rss=rss),
    )
    for child in children:
        child.parent = lambda: made
    return made


def machine(*processes: Any) -> Any:
    """Return a stand-in for psutil."""
    return SimpleNamespace(process_iter=lambda: iter(processes), CONN_LISTEN=LISTEN, Error=psutil.Error, walks=0)


def test_a_server_is_the_process_that_listens_and_its_children() -> None:
    """A server is found by program and port; its memory is that of all its processes."""
    runner = process(12, ["/usr/lib/ollama/runner"], rss=1000)
    source = machine(
        process(10, ["/usr/bin/ollama", "serve"], 11435),
        process(11, ["/usr/bin/ollama", "serve"], 11434, (runner,)),
        process(13, ["nginx"], 11434),
    )
    found = LocalProcesses("127.0.0.1", 11434, source).find(["ollama"])
    assert found is not None
    assert set(found.pids) == {11, 12}
    assert found.resident_bytes == 1100
    assert list(found.arguments) == ["/usr/bin/ollama", "serve"]


def test_both_directions_agree() -> None:
    """The processes of a server are those whose owner it is, with the same rules for shells and unseen ports."""
    unrelated = process(14, ["python", "train.py"])
    shell = process(13, ["bash", "-i"], children=(unrelated,))
    worker = process(12, ["VLLM::Worker"])
    server = process(11, ["vllm", "serve", "--port", "8000"], children=(worker, shell))
    server.children = lambda recursive: [worker, shell, unrelated] if recursive else [worker, shell]
    everything = {one.pid: one for one in (server, worker, shell, unrelated)}
    source = machine(*everything.values())
    source.Process = everything.__getitem__
    for one in everything.values():
        one.create_time = lambda: 1.0
    found = LocalProcesses("127.0.0.1", 8000, source).find(["vllm"])
    owners = ProcessOwners([LocalServer("chat", port=8000)], source)
    assert found is not None
    assert found.pids == {pid for pid in everything if owners(pid) == "chat"} == {11, 12}


@pytest.mark.parametrize("host", ["10.0.0.7", "gpu.example", ""])
def test_a_server_of_another_machine_has_no_processes_here(host: str) -> None:
    """A process on this machine that listens on the same port as a remote server is not that server."""
    source = machine(process(11, ["ollama", "serve"], 11434))
    assert LocalProcesses(host, 11434, source).find(["ollama"]) is None


def test_a_forwarded_port_is_not_the_server() -> None:
    """A container's proxy or a tunnel listens for another program: its memory is not the model's."""
    source = machine(process(11, ["docker-proxy", "-host-port", "8000"], 8000), process(12, ["ssh", "vllm-host"], 8000))
    assert LocalProcesses("127.0.0.1", 8000, source).find(["vllm"]) is None
    assert LocalProcesses("127.0.0.1", 8000, source).find([]) is None


def test_a_process_that_may_not_be_seen_is_passed_over() -> None:
    """Processes of other users, and processes that end meanwhile, are no error."""

    def denied() -> list[str]:
        raise psutil.AccessDenied

    other = process(9, [])
    other.cmdline = denied
    source = machine(other, process(11, ["llama-server"], 8080))
    assert LocalProcesses("localhost", 8080, source).find(["llama-server"]) is not None


def test_the_machine_is_walked_once_a_minute() -> None:
    """Between two searches only the known processes are read; a server that was away is searched for again."""
    now, walks = [0.0], list[float]()
    source = machine(process(11, ["llama-server"], 8080))
    walk = source.process_iter

    def counted() -> Any:
        walks.append(now[0])
        return walk()

    source.process_iter = counted
    processes = LocalProcesses("127.0.0.1", 8080, source, lambda: now[0])
    for now[0] in (0.0, 10.0, 59.0, 60.0):
        assert processes.find(["llama-server"]) is not None
    assert walks == [0.0, 60.0]
    processes.forget()
    processes.find(["llama-server"])
    assert len(walks) == 3


def test_this_process() -> None:
    """On the real machine a process that listens is found with its memory and its command line."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = LocalProcesses("127.0.0.1", server.getsockname()[1]).find([sys.argv[0].rsplit("/", 1)[-1], "python"])
    assert found is not None
    assert psutil.Process().pid in found.pids
    assert found.resident_bytes > 1e6


@pytest.mark.parametrize(
    ("command", "matches"),
    [
        ("/opt/bin/vllm serve m", True),
        ("python3 -m vllm.entrypoints.openai.api_server --port 8000", True),
        ("/usr/bin/python3.12 -u /opt/venv/bin/vllm serve m", True),
        ("python3 /opt/bin/modelhost-exporter --proxy=vllm=:8001=http://127.0.0.1:8000", False),
        ("curl http://vllm:8000", False),
        ("python3 -u", False),
    ],
)
def test_a_program_is_matched_by_its_name_only(command: str, matches: bool) -> None:
    """Not by its arguments, which may name an engine elsewhere."""
    assert is_one_of(command.split(), ("vllm",)) is matches
