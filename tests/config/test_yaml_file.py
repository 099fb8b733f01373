"""YAML files that would take much time or memory: each fails fast, with one error."""

from __future__ import annotations

import os
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from modelhost_exporter.config import file_content
from modelhost_exporter.config.parsing import ConfigError
from modelhost_exporter.config.yaml_file import MAX_BYTES, read

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 12)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 9)}]}}\n" for level in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [" + "x," * 51_000 + "]", ": more than 50000 values, aliases included"),
        ("a: &a [*a]", ":1:8: an alias inside its own anchor"),
        ("a: &a {b: *a}", ":1:11: an alias inside its own anchor"),
        ("[" * 100_000, ":1:33: nested more than 32 levels deep"),
        ("{a: " * 40, ":1:126: nested more than 32 levels deep"),
        ("a: " + "9" * 100_000, ": not a YAML int"),
        ("a: 1" + ":1" * 100_000, ": not a YAML int"),
        ("a: " + "9" * 1000 + ".5", ": not a YAML float"),
        ("a: !!int [1]", ":1:4: expected a scalar node, but found sequence"),
        ("# " + "x" * MAX_BYTES, ": larger than 256 KiB"),
    ],
)
def test_a_file_that_would_take_much_is_one_error(tmp_path: Path, text: str, problem: str) -> None:
    """Deep nesting, huge numbers and huge files: the error is one short line, with a place."""
    message = _message(tmp_path / "c.yaml", text)
    assert problem in message
    assert "\n" not in message
    assert len(message) < len(str(tmp_path)) + 200


@pytest.mark.parametrize("text", [BOMB, MERGES])
def test_exponential_aliases_need_no_memory(tmp_path: Path, text: str) -> None:
    """They are an error before they are expanded."""
    tracemalloc.start()
    try:
        message = _message(tmp_path / "c.yaml", text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert ": more than 50000 values, aliases included" in message
    assert peak < 64 << 20


def _message(file: Path, text: str) -> str:
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        read(file)
    message = str(raised.value)
    assert message.startswith(f"{file}:")
    return message


def test_aliases_are_welcome(tmp_path: Path) -> None:
    """An alias is expanded each time, also in merged keys."""
    file = tmp_path / "c.yaml"
    file.write_text("a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\nd: [*a, *a]\n")
    x = {"x": 1}
    assert read(file) == {"a": x, "b": x, "c": {"x": 1, "y": 2}, "d": [x, x]}


def test_a_file_without_end_is_not_read_to_its_end() -> None:
    """An endless device is rejected as too large."""
    with pytest.raises(ConfigError, match="larger than"):
        read(Path("/dev/zero"))


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    """A pipe is read to its end, even if its data arrives late and in parts."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def write() -> None:
        with pipe.open("wb", buffering=0) as opened:
            for part in (b"a: 1\n", b"b: 2\n"):
                opened.write(part)

    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(write)
        assert read(pipe) == {"a": 1, "b": 2}
        written.result()


@pytest.mark.parametrize("with_writer", [False, True])
def test_a_pipe_that_nobody_writes_to_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, with_writer: bool
) -> None:
    """Reading fails after a timeout: ``--config.file <(…)`` has no writer when it is opened again."""
    monkeypatch.setattr(file_content, "_PIPE_SECONDS", 0.1)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR) if with_writer else None
    with pytest.raises(ConfigError, match="nothing was written to this pipe"):
        read(pipe)
    if writer is not None:
        os.close(writer)
