"""Real engines, started once: by a command in an environment variable, or running already at a URL in it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support.programs import fetch, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_START_SECONDS = 300.0


class RealEngine(NamedTuple):
    """A running engine."""

    kind: str
    url: str
    model: str


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder."""
    for item in items:
        if "real_engines" in item.path.parts:
            item.add_marker(pytest.mark.engines)


@pytest.fixture(scope="session")
def llamacpp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealEngine]:
    """Return a llama.cpp server with ``--metrics``."""
    yield from _engine("llamacpp", tmp_path_factory.mktemp("llamacpp"))


@pytest.fixture(scope="session")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealEngine]:
    """Return a vLLM server."""
    yield from _engine("vllm", tmp_path_factory.mktemp("vllm"))


@pytest.fixture(scope="session")
def litellm(tmp_path_factory: pytest.TempPathFactory, llamacpp: RealEngine) -> Iterator[RealEngine]:
    """Return a LiteLLM proxy in front of the llama.cpp server."""
    yield from _engine("litellm", tmp_path_factory.mktemp("litellm"), upstream=llamacpp.url)


def _engine(kind: str, folder: Path, **urls: str) -> Iterator[RealEngine]:
    variable = f"MODELHOST_TEST_{kind.upper()}"
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"no {kind}: set {variable} to its URL, or to a command with {{port}} that starts it")
    if value.startswith("http://"):
        yield RealEngine(kind, value, _model(value))
        return
    port = free_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            shlex.split(value.format(port=port, **urls)), stdout=log, stderr=log, start_new_session=True
        )
        url = f"http://127.0.0.1:{port}"
        try:
            yield RealEngine(kind, url, _started(process, url))
        finally:
            with contextlib.suppress(ProcessLookupError):  # the workers of a server that has died as well
                os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _started(process: subprocess.Popen[bytes], url: str) -> str:
    """Return the engine's model once it answers."""
    end = time.monotonic() + _START_SECONDS
    while True:
        with contextlib.suppress(OSError, LookupError, ValueError):
            return _model(url)
        if process.poll() is not None or time.monotonic() > end:
            pytest.fail(f"{process.args!r} does not answer")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.5)


def _model(url: str) -> str:
    name: str = json.loads(fetch(f"{url}/v1/models"))["data"][0]["id"]
    return name
