from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter import threads
from modelhost_exporter.config.parsing import ConfigError
from modelhost_exporter.security import reloaded
from modelhost_exporter.security.reloaded import FilesRead, Reloaded

if TYPE_CHECKING:
    from pathlib import Path


class Text:
    """Reads a file as text; ``bad`` in it is an error."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.reads = 0
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def __call__(self, files: FilesRead) -> str:
        """Read it, once it may."""
        self.reads += 1
        content = files.content(self.file, 100).decode()
        self.may_go_on.wait(20)
        if "bad" in content:
            raise ConfigError(str(self.file), "bad")
        return content


@pytest.fixture
def text(tmp_path: Path) -> Text:
    """Return the reader of a file with the text ``one``."""
    file = tmp_path / "file"
    file.write_text("one")
    return Text(file)


def test_only_a_changed_file_is_read_again(text: Text) -> None:
    """An unchanged file costs no read; a changed one is in force with the next use."""
    value = Reloaded(text, "the file")
    assert [value.refresh() for _ in range(3)] == ["one"] * 3
    assert text.reads == 1
    text.file.write_text("two")
    assert value.refresh() == "two"
    assert text.reads == 2


def test_a_file_that_is_replaced_is_read_again(text: Text, tmp_path: Path) -> None:
    """As tools for certificates and Kubernetes do it: another file, or link, takes the place, of the same size."""
    value = Reloaded(text, "the file")
    for number, content in enumerate(("two", "six")):
        other = tmp_path / f"other{number}"
        other.write_text(content)
        link = tmp_path / f"link{number}"
        link.symlink_to(other)
        (other if number else link).replace(text.file)
        assert value.refresh() == content


def test_an_error_keeps_the_last_value(text: Text, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once, tried again when the file changes, and ends with the first valid content."""
    caplog.set_level(logging.INFO)
    value = Reloaded(text, "the file", now=lambda: 5.0)
    text.file.write_text("bad")
    for _ in range(3):
        assert value.refresh() == "one"
    assert (value.is_current, text.reads) == (False, 2)
    text.file.write_text("bad too")
    assert value.refresh() == "one"
    assert text.reads == 3
    assert [record.message for record in caplog.records] == ["the file not read again: the previous one stays in force"]
    text.file.write_text("good")
    assert value.refresh() == "good"
    assert (value.is_current, value.loaded_at) == (True, 5.0)
    assert caplog.records[-1].message == "the file read again"


def test_a_file_may_vanish_for_a_while(text: Text) -> None:
    """A rotation that is not atomic does no harm."""
    value = Reloaded(text, "the file")
    text.file.unlink()
    assert value.refresh() == "one"
    assert not value.is_current
    text.file.write_text("two")
    assert value.refresh() == "two"
    assert value.is_current


def test_an_error_without_a_change_is_tried_again(text: Text, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a file system that fails for a moment: after some seconds."""
    value = Reloaded(text, "the file")
    text.file.write_text("bad")
    value.refresh()
    before = text.reads
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 6)
    value.refresh()
    assert text.reads == before + 1


def test_the_first_error_is_raised(text: Text) -> None:
    """There is nothing to keep yet."""
    text.file.write_text("bad")
    with pytest.raises(ConfigError):
        Reloaded(text, "the file")


def test_a_large_file_is_refused(text: Text) -> None:
    """What is read is bounded."""
    text.file.write_text("x" * 101)
    with pytest.raises(ConfigError, match="larger than 100 bytes"):
        Reloaded(text, "the file")


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    """It would be empty the second time."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR)
    os.write(writer, b"one")
    reader = Text(pipe)

    def load(files: FilesRead) -> str:
        files.note(pipe)
        return os.read(writer, 100).decode()

    value = Reloaded(load, "the pipe")
    os.write(writer, b"two")
    assert [value.refresh() for _ in range(2)] == ["one", "one"]
    os.close(writer)
    assert not reader.reads


async def test_a_file_system_that_hangs_delays_nobody_for_long(text: Text, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last value is in force meanwhile, one read at a time hangs, and the event loop runs."""
    monkeypatch.setattr(reloaded, "_WAIT_SECONDS", 0.05)
    value = Reloaded(text, "the file")
    text.may_go_on.clear()
    text.file.write_text("two")
    assert await asyncio.gather(*(value.refreshed() for _ in range(20))) == ["one"] * 20
    assert value.refresh() == "one", "another thread does not wait for the one that reads"
    assert text.reads == 2
    text.may_go_on.set()
    while await value.refreshed() != "two":
        pass
    assert text.reads == 2


async def test_without_a_thread_the_last_value_is_in_force(text: Text, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without threads goes on with what it has."""

    def no_thread(_function: object) -> None:
        raise RuntimeError("can't start new thread")

    value = Reloaded(text, "the file")
    text.file.write_text("two")
    with monkeypatch.context() as patch:
        patch.setattr(threads, "call", no_thread)
        assert await value.refreshed() == "one"
    assert await value.refreshed() == "two"
