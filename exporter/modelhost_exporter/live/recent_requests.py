"""Requests in progress and the last finished ones, filtered, as JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
import time
import typing
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, Self

from modelhost_exporter.live.request_message import RequestMessage
from modelhost_exporter.live.token_progress import decode_speed
from modelhost_exporter.requests.observation import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from modelhost_exporter.requests.observation import RequestLabels, RequestObservation
    from modelhost_exporter.requests.recent import RecentRequests
    from modelhost_exporter.requests.running import RunningRequest, RunningRequests

OUTCOMES: tuple[str, ...] = typing.get_args(Outcome)
IN_PROGRESS = "in_progress"
ERROR = "error"
"""Every outcome but ok, as in the metric of durations."""
FORMATS = ("json", "csv")

_MS = 1e3
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What begins a formula in spreadsheet programs, the wide forms included."""


class RequestQuery(NamedTuple):
    """Which requests are wanted, and how."""

    model: str | None = None
    """SERVER/MODEL, or the name of a model; None: all."""
    outcome: str | None = None
    """An outcome, IN_PROGRESS or ERROR; None: all."""
    limit: int | None = None
    format: str = "json"

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Self:
        """Parse query parameters; ValueError for an invalid value. Empty ones and others are ignored."""
        outcome = _one_of(query, "outcome", (IN_PROGRESS, ERROR, *OUTCOMES))
        limit = query.get("limit") or None
        if limit is not None and not (limit.isascii() and limit.isdigit() and 0 < len(limit) <= len("1000")):
            raise ValueError("limit must be a number of at most 4 digits")
        return cls(
            query.get("model") or None,
            outcome,
            int(limit) if limit else None,
            _one_of(query, "format", FORMATS) or "json",
        )

    def _selects(self, labels: RequestLabels, outcome: str) -> bool:
        if self.model not in (None, labels.model, f"{labels.server}/{labels.model}"):
            return False
        if self.outcome == ERROR:
            return outcome not in (IN_PROGRESS, "ok")
        return self.outcome in (None, outcome)

    def encoded(self, running: RunningRequests, recent: RecentRequests, now: Callable[[], float] = time.time) -> bytes:
        """Return the wanted requests in the wanted format."""
        wanted = list(islice(self._rows(running, recent, now()), self.limit))
        return _csv(wanted) if self.format == "csv" else json.dumps({"requests": wanted}, allow_nan=False).encode()

    def _rows(self, running: RunningRequests, recent: RecentRequests, now: float) -> Iterator[RequestMessage]:
        for request in running.longest_first():
            if self._selects(request.labels, IN_PROGRESS):
                yield _running(request, now)
        for ended, observed in recent.newest_first():
            if self._selects(observed.labels, observed.outcome):
                yield _finished(ended, observed)


def _one_of(query: Mapping[str, str], key: str, values: tuple[str, ...]) -> str | None:
    value = query.get(key) or None
    if value is not None and value not in values:
        raise ValueError(f"{key} must be one of {', '.join(values)}")
    return value


def _running(request: RunningRequest, now: float) -> RequestMessage:
    row = _row(request.labels, now - request.seconds, request.seconds, request.state)
    row["client"] = request.client
    return row


def _finished(ended: float, observed: RequestObservation) -> RequestMessage:
    row = _row(observed.labels, ended - observed.duration, observed.duration, "finished")
    first, speed = observed.time_to_first_token, decode_speed(observed)
    row["client"] = observed.client
    row["outcome"], row["code"] = observed.outcome, observed.code
    row["timeToFirstToken"] = None if first is None else round(first * _MS, 3)
    row["inputTokens"], row["outputTokens"] = observed.tokens.input, observed.tokens.output
    row["tokensPerSecond"] = None if speed is None else round(speed, 2)
    row["finishReason"] = ", ".join(sorted(set(observed.finish_reasons))) or None
    return row


def _row(labels: RequestLabels, started: float, seconds: float, state: str) -> RequestMessage:
    return {
        "time": datetime.fromtimestamp(started, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "server": labels.server,
        "model": labels.model,
        "operation": labels.operation,
        "state": state,
        "outcome": None,
        "code": None,
        "timeToFirstToken": None,
        "duration": round(seconds * _MS, 3),
        "inputTokens": None,
        "outputTokens": None,
        "tokensPerSecond": None,
        "finishReason": None,
        "client": None,
    }


def _csv(rows: list[RequestMessage]) -> bytes:
    """Return a table with the names of the fields in the first line (RFC 4180)."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(RequestMessage.__annotations__)
    writer.writerows(_cells(row) for row in rows)
    return text.getvalue().encode()


def _cells(row: RequestMessage) -> Iterator[object]:
    """Yield the cells of a line. Names come from clients: none is a formula for spreadsheet programs."""
    for value in row.values():
        yield f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
