"""Log lines: a bounded queue, limits for lines that clients and libraries cause, and two formats."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from aiohttp.http_exceptions import BadHttpMessage

from modelhost_exporter.config.model import Log
from modelhost_exporter.logs import formatting as logs
from modelhost_exporter.logs.library_limit import MAX_PER_PERIOD, LogLimit
from modelhost_exporter.logs.queue import LogQueue, StreamWriter
from modelhost_exporter.logs.rate_limit import PERIOD_SECONDS
from modelhost_exporter.process.daemon_thread import Thread
from tests.support.programs import DEADLINE_SECONDS, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


class Disk:
    """A simulated disk that records writes, blocks while closed, and fails while full."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Semaphore(0)
        self.full = False

    def __call__(self, data: bytes) -> None:
        """Write."""
        self.entered.release()
        self.open.wait(DEADLINE_SECONDS)
        if self.full:
            raise OSError(28, "No space left on device")
        self.written += data.splitlines()


@pytest.fixture
def disk() -> Iterator[Disk]:
    """Give a disk that is open at the end, so that no thread stays."""
    disk = Disk()
    yield disk
    disk.open.set()


def _put(lines: LogQueue, first: int, last: int) -> None:
    for number in range(first, last + 1):
        lines.put(b"%d\n" % number)


def test_lines_beyond_the_limit_are_dropped_counted_and_reported(disk: Disk) -> None:
    """The first lines are written in order; a notice takes the place of the dropped ones."""
    lines = LogQueue(disk, max_lines=4)
    disk.open.clear()
    _put(lines, 1, 7)
    assert lines.dropped == 3
    disk.open.set()
    lines.drain(DEADLINE_SECONDS)
    _put(lines, 8, 8)
    lines.drain(DEADLINE_SECONDS)
    assert disk.written == [b"1", b"2", b"3", b"4", b"3 log messages dropped", b"8"]
    assert lines.dropped == 3


def test_after_a_drop_lines_fit_again_when_half_is_written(disk: Disk) -> None:
    """Several dropped lines cause one notice, not a notice for every second line."""
    lines = LogQueue(disk, max_lines=4)
    disk.open.clear()
    _put(lines, 1, 4)
    assert disk.entered.acquire(timeout=DEADLINE_SECONDS)
    _put(lines, 5, 6)
    assert lines.dropped == 2
    disk.open.set()
    lines.drain(DEADLINE_SECONDS)
    assert disk.written == [b"1", b"2", b"3", b"4", b"2 log messages dropped"]


def test_bytes_are_limited_too(disk: Disk) -> None:
    """The queue is limited in bytes as well; a line longer than the limit is dropped alone."""
    lines = LogQueue(disk, max_bytes=100)
    disk.open.clear()
    lines.put(b"a" * 59 + b"\n")
    lines.put(b"b" * 59 + b"\n")
    assert lines.dropped == 1
    disk.open.set()
    lines.drain(DEADLINE_SECONDS)
    lines.put(b"c" * 500)
    lines.put(b"d\n")
    lines.drain(DEADLINE_SECONDS)
    assert disk.written == [b"a" * 59, b"1 log messages dropped", b"1 log messages dropped", b"d"]


def test_what_cannot_be_written_is_counted_and_reported_later(disk: Disk) -> None:
    """Lines are written again once a full disk has space."""
    lines = LogQueue(disk)
    disk.full = True
    _put(lines, 1, 3)
    lines.drain(DEADLINE_SECONDS)
    assert lines.dropped == 3
    disk.full = False
    _put(lines, 4, 4)
    lines.drain(DEADLINE_SECONDS)
    assert disk.written == [b"3 log messages dropped", b"4"]


def test_a_drain_waits_no_longer_than_it_may(disk: Disk) -> None:
    """The program ends even if nothing reads the log."""
    lines = LogQueue(disk)
    disk.open.clear()
    _put(lines, 1, 3)
    lines.drain(0.01)
    assert disk.written == []


def test_without_a_thread_lines_wait_and_are_written_at_the_end(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has no thread left."""

    def fail(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    lines = LogQueue(disk)
    with monkeypatch.context() as without_threads:
        without_threads.setattr(Thread, "start", fail)
        _put(lines, 1, 2)
        assert disk.written == []
        lines.drain(DEADLINE_SECONDS)
    assert disk.written == [b"1", b"2"]
    _put(lines, 3, 3)
    lines.drain(DEADLINE_SECONDS)
    assert disk.written == [b"1", b"2", b"3"]


def test_a_finalizer_may_log_while_a_line_is_appended(disk: Disk) -> None:
    """No deadlock: garbage collection may run anywhere, and asyncio logs in finalizers."""
    lines = LogQueue(disk)

    class Finalizing(bytes):
        def __len__(self) -> int:
            lines.put(b"inner\n")
            return super().__len__()

    thread = threading.Thread(target=lines.put, args=[Finalizing(b"outer\n")], daemon=True)
    thread.start()
    thread.join(DEADLINE_SECONDS)
    assert not thread.is_alive()
    lines.drain(DEADLINE_SECONDS)
    assert set(disk.written) == {b"inner", b"outer"}


def test_a_pipe_that_is_not_blocking_gets_every_line() -> None:
    """Lines are written completely to a pipe that another process made non-blocking."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "w") as stream:
        lines = LogQueue(StreamWriter(stream))
        for _ in range(300):
            lines.put(b"x" * 999 + b"\n")
        for _ in range(300):
            assert reader.readline() == b"x" * 999 + b"\n"
    assert lines.dropped == 0


def test_a_line_that_was_written_in_part_does_not_spoil_the_next() -> None:
    """A partly written line is ended before the next line."""
    taken: list[bytes] = []
    left = 3

    def write(_descriptor: int, data: memoryview[int] | bytes) -> int:
        nonlocal left
        if left == 0:
            raise OSError(28, "No space left on device")
        taken.append(bytes(data[:left]))
        left -= len(taken[-1])
        return len(taken[-1])

    with open(os.devnull, "w") as stream:  # noqa: PTH123 - any stream with a descriptor
        writer = StreamWriter(stream, write)
        with pytest.raises(OSError, match="space"):
            writer(b"first\n")
        left = 1000
        writer(b"second\n")
    assert b"".join(taken) == b"fir\nsecond\n"


def test_a_stream_without_a_descriptor_is_written_to() -> None:
    """Streams without a descriptor are written directly; None counts as dropped."""
    stream = io.StringIO()
    StreamWriter(stream)(b"line\n")
    assert stream.getvalue() == "line\n"
    lines = LogQueue(StreamWriter(None))
    lines.put(b"line\n")
    wait_until(lambda: lines.dropped == 1, "it is counted")


def _record(name: str, line: int = 1, error: Exception | None = None) -> logging.LogRecord:
    found = (type(error), error, None) if error else None
    return logging.LogRecord(name, logging.ERROR, "file.py", line, "text", (), found)


def test_lines_of_libraries_are_limited_by_their_place() -> None:
    """Three a minute pass; the first of the next minute has the number of suppressed ones."""
    now = [0.0]
    limit = LogLimit(now=lambda: now[0])
    assert [limit.filter(_record("asyncio")) for _ in range(10)].count(True) == MAX_PER_PERIOD
    assert limit.filter(_record("asyncio", line=2))
    assert limit.filter(_record("asyncio", error=OSError()))
    now[0] = PERIOD_SECONDS
    record = _record("asyncio")
    assert limit.filter(record)
    assert record.__dict__["fields"] == {"suppressed": 10 - MAX_PER_PERIOD}


def test_own_lines_pass_unless_they_hold_a_traceback() -> None:
    """Own lines pass, except those with a traceback, which every request may cause."""
    limit = LogLimit()
    assert all(limit.filter(_record("modelhost_exporter.scraping.scrape")) for _ in range(10))
    assert [limit.filter(_record("modelhost_exporter.proxy", error=KeyError())) for _ in range(10)].count(
        True
    ) == MAX_PER_PERIOD


def test_a_clients_mistake_is_logged_at_level_debug_only() -> None:
    """Errors of requests that are not HTTP are logged at debug only."""
    assert not LogLimit().filter(_record("aiohttp.server", error=BadHttpMessage("bad")))
    assert LogLimit(debug=True).filter(_record("aiohttp.server", error=BadHttpMessage("bad")))


@pytest.mark.parametrize("format_", ["text", "json"])
def test_controls_in_a_value_are_escaped(capsys: pytest.CaptureFixture[str], format_: str) -> None:
    """Control characters in values are escaped; other scripts stay readable in logfmt."""
    logs.set_up(Log(format="json" if format_ == "json" else "text"))
    hostile = "a\x1b[2J\x9b\x7f\u202e\n\udcffb"
    logging.getLogger("modelhost_exporter.x").info("text", extra={"fields": {"name": hostile, "other": "größe 名"}})
    logs.flush()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.isprintable()
    if format_ == "json":
        assert json.loads(line)["name"] == hostile
    else:
        assert line.endswith('"größe 名"')


def test_a_line_that_cannot_be_formatted_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """The line is dropped, and Python's own error message, which could block, is not printed."""
    logs.set_up(Log())
    before = logs.dropped()
    logging.getLogger("modelhost_exporter.x").info("%d", "no number")
    logs.flush()
    assert logs.dropped() == before + 1
    assert "Traceback" not in capsys.readouterr().err


_UNCAUGHT = """
import threading, warnings
from modelhost_exporter.logs import formatting as logs
from modelhost_exporter.config.model import Log

logs.set_up(Log(format="json"))
logs.log_uncaught_errors()

class Failing:
    def __del__(self):
        raise KeyError("in a finalizer")

def fail():
    raise KeyError("in a thread")

Failing()
thread = threading.Thread(target=fail, name="mine")
thread.start()
thread.join()
warnings.warn("a warning")
raise KeyError("in the end")
"""


def test_what_nothing_caught_is_logged_in_the_same_way() -> None:
    """Python's own error messages are log lines too, so that printing them cannot block."""
    command = [sys.executable, "-c", _UNCAUGHT]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False)
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert ended.returncode == 1
    assert [line["level"] for line in lines] == ["error", "error", "warning", "critical"]
    for line, text in zip(lines, ("in a finalizer", "in a thread", "a warning", "in the end"), strict=True):
        assert text in line.get("exception", line["msg"])
    assert lines[1]["thread"] == "mine"
