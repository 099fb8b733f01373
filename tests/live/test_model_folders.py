"""The folders of models on this machine."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from modelhost_exporter.collector import Paths
from modelhost_exporter.live.model_folders import ModelFolder, ModelFolders, search
from tests.support.programs import wait_until

if TYPE_CHECKING:
    from pathlib import Path


def processes(*found: Any) -> Any:
    """Return a stand-in for psutil with these processes."""
    return SimpleNamespace(process_iter=lambda: iter(found))


def process(*words: str, **variables: str) -> Any:
    """Return a process with a command line and variables."""
    return SimpleNamespace(cmdline=lambda: list(words), environ=lambda: variables)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the root of a host with two users."""
    for folder in ("home/ada/.ollama/models", "home/bob/.lmstudio/models", "data/hub", "data/gguf", "root"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "home/bob/.cache").mkdir()
    (tmp_path / "data/gguf/model.gguf").touch()
    return tmp_path


def test_the_usual_folders_of_each_user_are_found(root: Path) -> None:
    """By engine, only where they exist; links are followed."""
    (root / "home/bob/.cache/huggingface").symlink_to(root / "data")
    assert search(root, processes()) == [
        ModelFolder("Hugging Face", "/data/hub"),
        ModelFolder("LM Studio", "/home/bob/.lmstudio/models"),
        ModelFolder("Ollama", "/home/ada/.ollama/models"),
    ]


def test_running_engines_name_their_folders(root: Path) -> None:
    """In options, with or without =, and in variables; other programs and relative paths do not count."""
    found = search(
        root,
        processes(
            process("/opt/llama-server", "--port", "8080", "-m", "/data/gguf/model.gguf"),
            process("llama-server", "--model=/data/gguf", "-m"),
            process("/bin/cat", "-m", "/data/hub"),
            process("llama-server", "-m", "relative.gguf"),
            process("llama-server", "-m", "/absent.gguf"),
            process("ollama", "serve", OLLAMA_MODELS="/data"),
            process("python3", "/usr/bin/vllm", "serve", HF_HOME="/data/hub"),
            process(),
        ),
    )
    assert [folder for folder in found if "/home/" not in folder.path] == [
        ModelFolder("Hugging Face", "/data/hub"),
        ModelFolder("Ollama", "/data"),
        ModelFolder("llama.cpp", "/data/gguf"),
        ModelFolder("llama.cpp", "/data/gguf/model.gguf"),
    ]


def test_processes_and_folders_that_may_not_be_read_are_left_out(root: Path) -> None:
    """As for an exporter that is not root; also loops of links."""

    def refused() -> Any:
        raise psutil.AccessDenied

    hidden = SimpleNamespace(cmdline=lambda: ["ollama", "serve"], environ=refused)
    gone = SimpleNamespace(cmdline=refused, environ=refused)
    loop = root / "home/bob/.ollama"
    loop.symlink_to(loop)
    assert ModelFolder("Ollama", "/home/ada/.ollama/models") in search(root, processes(hidden, gone))


def test_a_search_that_hangs_blocks_nobody(root: Path) -> None:
    """Such as in a home folder on a dead network mount: the call returns at once, and later returns what was found."""
    calls: list[threading.Thread] = []
    release = threading.Event()

    def paths() -> Paths:
        calls.append(threading.current_thread())
        release.wait(30)
        return Paths(rootfs=root)

    folders = ModelFolders(paths)
    assert folders() == folders() == ()
    release.set()
    wait_until(lambda: bool(folders()), "the folders are found")
    assert ModelFolder("Ollama", "/home/ada/.ollama/models") in folders()
    assert len(calls) == 1
    assert calls[0] is not threading.current_thread()
