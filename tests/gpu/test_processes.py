from __future__ import annotations

import os
from types import SimpleNamespace

import psutil
import pytest

from modelhost_exporter.gpu.processes import UNKNOWN, ProcessMemory, ProcessNames, program


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["/usr/local/bin/llama-server", "-m", "/models/a.gguf"], "llama-server"),
        (["ollama", "runner", "--model", "x"], "ollama"),
        (["/opt/venv/bin/python3.12", "-m", "vllm.entrypoints.openai.api_server"], "vllm"),
        (["python", "/opt/venv/bin/vllm", "serve", "m"], "vllm"),
        (["python3", "-u", "-X", "dev", "train.py"], "train.py"),
        (["python3", "-u", "train.py", "--lr", "1"], "train.py"),
        (["python3", "-c", "import torch"], "python3"),
        (["python3", "-uc", "KEY='a'"], "python3"),
        (["/bin/bash", "-lc", "KEY=a serve"], "bash"),
        (["sh", "-e", "-c", "KEY=a serve"], "sh"),
        (["perl", "-MKEY", "-ne", "print 'a'"], "perl"),
        (["perl", "-eKEY", "a"], "perl"),
        (["ruby", "-e", "KEY"], "ruby"),
        (["node", "--eval", "KEY"], "node"),
        (["node", "--print=KEY", "a"], "node"),
        (["node", "--enable-source-maps", "/srv/app.js"], "app.js"),
        (["ruby", "-w", "/srv/app.rb"], "app.rb"),
        (["python3"], "python3"),
        (["VLLM::Worker_TP0"], "VLLM"),
        (["VLLM::EngineCore", "", ""], "VLLM"),
        (["ray::RayWorkerWrapper.execute_method"], "ray"),
        (["sglang::scheduler_TP1", ""], "sglang"),
        (["nginx: worker process"], "nginx"),
        ([r"C:\Program Files\LM Studio\LM Studio.exe"], "LM Studio.exe"),
        (["java", "-jar", "app.jar"], "app.jar"),
        ([], ""),
        ([""], ""),
        (["/"], "/"),
    ],
)
def test_programs_are_named_for_people(command: list[str], name: str) -> None:
    """The name is what runs: not the interpreter, not the worker's number, never a pid."""
    assert program(command) == name


def processes(**of: SimpleNamespace | Exception) -> SimpleNamespace:
    """Return a psutil with these processes (p1 is pid 1)."""

    def process(pid: int) -> SimpleNamespace:
        found = of.get(f"p{pid}", psutil.NoSuchProcess(pid))
        if isinstance(found, Exception):
            raise found
        return found

    return SimpleNamespace(Process=process)


def test_an_owner_goes_before_the_program() -> None:
    """A process of a configured server has the server's name; other processes have their program's."""
    known = SimpleNamespace(cmdline=lambda: ["/bin/llama-server"], name=lambda: "llama-server")
    names = ProcessNames({1: "chat"}.get, processes(p1=known, p2=known))
    assert (names.of(1), names.of(2)) == ("chat", "llama-server")


def test_a_process_that_cannot_be_seen_is_unknown() -> None:
    """A process that ended, or of another namespace or user, is named 'unknown'."""
    names = ProcessNames(source=processes(p2=psutil.AccessDenied(2)))
    assert (names.of(1), names.of(2)) == (UNKNOWN, UNKNOWN)


def test_a_process_without_a_command_line_has_its_short_name() -> None:
    """A kernel thread or zombie has the kernel's name for it."""
    empty = SimpleNamespace(cmdline=list, name=lambda: "kworker")
    assert ProcessNames(source=processes(p1=empty)).of(1) == "kworker"


def test_memory_is_added_up_by_name() -> None:
    """Sizes are summed by name; a name with an unknown size is left out, because a partial sum would look complete."""
    names = ProcessNames({1: "a", 2: "a", 3: "b", 4: "c"}.get)
    assert names.memory([ProcessMemory(1, 10), ProcessMemory(2, 5), ProcessMemory(3, 0), ProcessMemory(4, None)]) == {
        "a": 15,
        "b": 0,
    }
    assert names.memory([ProcessMemory(1, 10), ProcessMemory(2, None), ProcessMemory(3, 0)]) == {"b": 0}


def test_this_very_process_has_a_name() -> None:
    """On the real machine the tests' own process is not unknown."""
    assert ProcessNames().of(os.getpid()) != UNKNOWN
