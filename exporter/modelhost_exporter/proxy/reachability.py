"""Log when an upstream cannot be reached, and when it can again."""

from __future__ import annotations

import logging

from modelhost_exporter.logs.rate_limit import LineLimit
from modelhost_exporter.logs.state_log import StateLog

log = logging.getLogger(__name__)

_MAX_LINES = 10
"""Lines a minute, for an upstream that is reached by some requests only."""


class Reachability:
    """Whether an upstream could be reached by the last request; used on the event loop."""

    def __init__(self, server: str, upstream: str) -> None:
        self._fields = {"server": server, "upstream": upstream}
        self._reason = StateLog("")
        self._limit = LineLimit(_MAX_LINES)
        self.is_reached = False
        """Whether it could, and has responded."""
        self.has_responded = False
        """Whether it ever has."""

    def failed(self, reason: str) -> None:
        """Note that it could not be reached; log a reason that is new."""
        self.is_reached = False
        if self._reason.changed(reason):
            self._log(logging.WARNING, "upstream unreachable", {"reason": reason})

    def responded(self) -> None:
        """Note that it has responded."""
        self.is_reached = self.has_responded = True
        if self._reason.changed(""):
            self._log(logging.INFO, "upstream responds again", {})

    def _log(self, level: int, message: str, fields: dict[str, object]) -> None:
        suppressed = self._limit.pass_line()
        if suppressed is not None:
            more = {"more": suppressed} if suppressed else {}
            log.log(level, message, extra={"fields": {**self._fields, **fields, **more}})
