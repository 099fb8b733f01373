"""A bounded queue for log lines, so that a slow reader of the log never blocks the exporter."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import threading
from typing import TYPE_CHECKING

from modelhost_exporter.process.daemon_thread import BEGIN_SECONDS, Thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

MAX_LINES = 5000
MAX_BYTES = 4 << 20


class LogQueue:
    """Write lines in a daemon thread, in order; lines that do not fit or cannot be written are dropped and counted.

    After a drop all further lines are dropped until half of the queue is written; a notice with their number then
    precedes the next line. ``put`` never blocks and is reentrant: a finalizer may call it while it runs.
    """

    def __init__(self, write: Callable[[bytes], None], max_lines: int = MAX_LINES, max_bytes: int = MAX_BYTES) -> None:
        """Prepare; the thread starts with ``prepare`` or the first line.

        ``write`` may block, and raise OSError or ValueError.
        """
        self._write = write
        self.notice: Callable[[int], bytes] = lambda count: b"%d log messages dropped\n" % count
        """Formats the line that reports a number of dropped messages."""
        self.dropped = 0
        """Number of lines dropped so far."""
        self._max_lines, self._max_bytes = max_lines, max_bytes
        self._items: queue.SimpleQueue[tuple[int, bytes] | threading.Event] = queue.SimpleQueue()
        self._lock = threading.RLock()
        self._lines = self._bytes = 0
        self._unreported = 0
        self._is_dropping = False
        self._thread: Thread | None = None

    def prepare(self) -> None:
        """Start the thread; RuntimeError when the machine has none left."""
        if not self._start():
            raise RuntimeError("can't start new thread")

    def put(self, line: bytes) -> None:
        """Append a line, which includes its line break; never blocks."""
        with self._lock:
            if not self._has_room(len(line)):
                self.count_dropped()
                return
            lost, self._unreported = self._unreported, 0
            self._lines += 1
            self._bytes += len(line)
            self._items.put((lost, line))
        self._start()

    def count_dropped(self) -> None:
        """Count a line that is not written."""
        with self._lock:
            self.dropped += 1
            self._unreported += 1

    def drain(self, timeout_seconds: float) -> None:
        """Wait until every line is written, for at most ``timeout_seconds``."""
        if self._lines == self._unreported == 0:
            return
        written = threading.Event()
        self._items.put(written)
        if self._start():
            written.wait(timeout_seconds)
        else:  # no thread left on this machine
            self._work(until=written)

    def _has_room(self, size: int) -> bool:
        share = 2 if self._is_dropping else 1
        fits = self._lines < self._max_lines // share and self._bytes + size <= self._max_bytes // share
        self._is_dropping = not fits
        return fits

    def _start(self) -> bool:
        """Start the thread if there is none; return whether there is one now."""
        if self._thread is None:
            thread = Thread(self._work, "log-writer")
            self._thread = thread
            try:
                thread.start(BEGIN_SECONDS)
            except RuntimeError:  # tried again with the next line
                self._thread = None
        return self._thread is not None

    def _work(self, until: threading.Event | None = None) -> None:
        while True:
            item = self._items.get()
            if isinstance(item, threading.Event):
                self._report_lost()
                item.set()
                if item is until:
                    return
                continue
            lost, line = item
            self._write_line(lost, line)
            with self._lock:
                self._lines -= 1
                self._bytes -= len(line)
                is_empty = self._lines <= 0
                if is_empty:
                    self._lines = self._bytes = 0
            if is_empty:
                self._report_lost()

    def _report_lost(self) -> None:
        with self._lock:
            lost, self._unreported = self._unreported, 0
        if lost:
            self._write_line(lost, b"")

    def _write_line(self, lost: int, line: bytes) -> None:
        try:
            self._write((self.notice(lost) if lost else b"") + line)
        except (OSError, ValueError):
            with self._lock:
                self._unreported += lost + bool(line)
                self.dropped += bool(line)


class StreamWriter:
    """Writes to a stream's file descriptor, or to the stream itself if it has none."""

    def __init__(self, stream: TextIO | None, write: Callable[[int, memoryview[int] | bytes], int] = os.write) -> None:
        self._stream = stream
        self._write = write
        self._descriptor: int | None = None
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._descriptor = stream.fileno() if stream is not None else None
        self._is_within_line = False

    def __call__(self, data: bytes) -> None:
        """Write everything; blocks. Raises OSError or ValueError when that fails or the stream is None."""
        if self._stream is None:
            raise OSError("standard error is closed")
        if self._descriptor is None:
            self._stream.write(data.decode())
            self._stream.flush()
            return
        rest = memoryview(b"\n" + data if self._is_within_line else data)
        while rest:
            try:
                count = self._write(self._descriptor, rest)
            except BlockingIOError:  # another process made the pipe non-blocking
                select.select([], [self._descriptor], [])
                continue
            rest = rest[count:]
            self._is_within_line = bool(rest)  # a full disk may accept a part of a line
