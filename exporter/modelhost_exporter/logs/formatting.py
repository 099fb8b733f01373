"""Log lines on standard error: logfmt for people, JSON for log collectors.

``extra={"fields": {...}}`` adds fields to a line, in both formats. A thread writes the lines (``logs.queue``), so that
logging never blocks, even if nothing reads standard error.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from modelhost_exporter.logs.library_limit import LogLimit
from modelhost_exporter.logs.queue import LogQueue, StreamWriter

if TYPE_CHECKING:
    from types import TracebackType

    from modelhost_exporter.config.model import Log

log = logging.getLogger(__name__)

_PLAIN = re.compile(r"[\w./:@+%,;()\[\]-]+")
_FLUSH_SECONDS = 0.5


class QueueingHandler(logging.Handler):
    """Format lines and append them to the queue."""

    def __init__(self, lines: LogQueue, formatter: logging.Formatter) -> None:
        super().__init__()
        self._queue = lines
        self.setFormatter(formatter)
        lines.notice = lambda count: self._line(_dropped_record(count))

    def emit(self, record: logging.LogRecord) -> None:
        """Append a line; a record that cannot be formatted is counted as dropped."""
        try:
            line = self._line(record)
        except Exception:  # noqa: BLE001 - logging must not raise in the caller
            self._queue.count_dropped()
        else:
            self._queue.put(line)

    def _line(self, record: logging.LogRecord) -> bytes:
        return f"{self.format(record)}\n".encode("utf-8", "backslashreplace")


class _Log:
    """The current queue, and the number of lines that earlier queues dropped."""

    def __init__(self) -> None:
        self._stream: object = None
        self._queue: LogQueue | None = None
        self._dropped_before = 0

    def queue(self) -> LogQueue:
        """Return the queue for the current ``sys.stderr``; a new one when that was replaced."""
        if self._queue is None or self._stream is not sys.stderr:
            self._dropped_before = self.dropped()
            self._stream = sys.stderr
            self._queue = LogQueue(StreamWriter(sys.stderr))
        return self._queue

    def dropped(self) -> int:
        """Return the number of dropped lines."""
        return self._dropped_before + (self._queue.dropped if self._queue is not None else 0)


_log = _Log()


def set_up(settings: Log) -> None:
    """Configure the root logger to write to standard error; may be called again."""
    handler = QueueingHandler(_log.queue(), _Json() if settings.format == "json" else _Logfmt())
    handler.addFilter(LogLimit(debug=settings.level == "debug"))
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)


def prepare() -> None:
    """Start the thread that writes; raises RuntimeError when the machine has none left."""
    _log.queue().prepare()


def dropped() -> int:
    """Return the number of log messages dropped since the start."""
    return _log.dropped()


def write(line: str) -> None:
    """Write a plain line to standard error, after the log lines before it."""
    _log.queue().put(f"{line}\n".encode("utf-8", "backslashreplace"))


def flush() -> None:
    """Wait until every line is written, for at most half a second."""
    _log.queue().drain(_FLUSH_SECONDS)


def log_uncaught_errors() -> None:
    """Log uncaught exceptions and warnings; printing them, as Python does, blocks when nothing reads standard error."""
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_fatal
    threading.excepthook = _log_thread_error
    sys.unraisablehook = _log_unraisable


def _log_fatal(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    log.critical("stopped by an unexpected error", exc_info=(kind, error, trace))
    flush()


def _log_thread_error(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is not None:
        found = (arguments.exc_type, arguments.exc_value, arguments.exc_traceback)
        name = arguments.thread.name if arguments.thread is not None else ""
        log.error("a thread ended with an error", exc_info=found, extra={"fields": {"thread": name}})


def _log_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    if unraisable.exc_value is not None:
        found = (unraisable.exc_type, unraisable.exc_value, unraisable.exc_traceback)
        log.error("%s", unraisable.err_msg or "an error was ignored", exc_info=found)


def _dropped_record(count: int) -> logging.LogRecord:
    text = "%d log messages dropped" if count != 1 else "%d log message dropped"
    return logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, (count,), None)


class _Formatter(logging.Formatter):
    def fields(self, record: logging.LogRecord) -> dict[str, object]:
        """Return a line's fields, in order."""
        fields: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return fields


class _Json(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(self.fields(record), default=str)


class _Logfmt(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return " ".join(f"{name}={_quoted(str(value))}" for name, value in self.fields(record).items())


def _quoted(value: str) -> str:
    """Return a value, quoted where logfmt requires it; control characters are escaped."""
    return value if _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=not value.isprintable())
