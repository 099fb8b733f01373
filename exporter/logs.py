"""Log lines on standard error: logfmt for people, JSON for log collectors.

``extra={"fields": {...}}`` adds fields to a line, in both formats.
"""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exporter.config import Log

_PLAIN = re.compile(r"[\w./:@+%,;()\[\]-]+")


def set_up(settings: Log) -> None:
    """Send every logger's lines to standard error as configured; may be called again."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Json() if settings.format == "json" else _Logfmt())
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)


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
    return value if _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=False)
