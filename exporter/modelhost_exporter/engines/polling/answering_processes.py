"""Notice that the polls of one server reach several processes in turn, each with counters of its own."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from modelhost_exporter.engines.snapshot import COUNTER_TABLES, COUNTERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelhost_exporter.engines.snapshot import Engine, ServerSnapshot

Counters = dict[str, float]

START_TIME = b"process_start_time_seconds "
"""Of every page that Prometheus' client libraries write for one process."""

_MIN_RETURNS, _WINDOW_POLLS = 2, 12
_CALM_POLLS = 30
"""Polls of one process alone after which the others are taken to be gone."""
_MAX_PROCESSES = 32


class AnsweringProcesses:
    """Whether several processes respond to the polls of one server.

    A process that starts anew has a start time that was never seen, so that one that comes back proves that there are
    several. Where it does not change, or pages have none, counters must fall to values that continue those of an
    earlier poll, twice within a few polls that all succeeded: a server that restarts may do so once by chance, and
    one that restarts again and again does not respond in between.
    """

    def __init__(self) -> None:
        self._polls = 0
        self._start_times: dict[str, list[float]] = {}
        """Those seen on each page, the last one at the end."""
        self._histories: list[Counters] = []
        """The last counters of each process, as far as they can be told apart."""
        self._last: Counters | None = None
        self._returns: deque[int] = deque(maxlen=_MIN_RETURNS)
        self._changed: int | None = None
        """The last poll that reached another process, once several are known."""

    @property
    def are_several(self) -> bool:
        """Whether there are several."""
        return self._changed is not None and self._polls - self._changed < _CALM_POLLS

    @property
    def has_counters(self) -> bool:
        """Whether any poll had something by which processes can be told apart."""
        return bool(self._start_times) or self._last is not None

    def note(self, pages: Mapping[str, bytes], snapshot: ServerSnapshot) -> None:
        """Note the pages of one poll, and what was read from them."""
        self._polls += 1
        for path, body in pages.items():
            if (began := start_time(body)) is not None:
                self._note_start(path, began)
        # a router's models have counters of their own, which begin anew with each load
        if snapshot.engine_by_model is None and (counters := counters_of(snapshot.engine)):
            self._note_counters(counters)

    def note_failure(self) -> None:
        """Note a poll that failed: the server may have been started anew."""
        self._last = None
        self._returns.clear()

    def _note_start(self, path: str, began: float) -> None:
        seen = self._start_times.setdefault(path, [])
        if seen and seen[-1] == began:
            return
        self._last = None  # counters of another process may be lower
        if began in seen:
            self._changed = self._polls
            seen.remove(began)
        seen.append(began)
        del seen[:-_MAX_PROCESSES]

    def _note_counters(self, counters: Counters) -> None:
        fell = self._last is not None and not _continues(counters, self._last)
        self._last = counters
        earlier = [history for history in self._histories if _continues(counters, history)]
        if earlier:
            self._histories.remove(min(earlier, key=lambda history: _distance(counters, history)))
        self._histories.append(counters)
        del self._histories[:-_MAX_PROCESSES]
        if not fell:
            return
        if earlier:
            self._returns.append(self._polls)
        is_proven = len(self._returns) == _MIN_RETURNS and self._polls - self._returns[0] < _WINDOW_POLLS
        if self.are_several or is_proven:
            self._changed = self._polls


def start_time(page: bytes) -> float | None:
    """Return when the process of a page of metrics began, in seconds since 1970; None where it has none."""
    at = 0 if page.startswith(START_TIME) else page.find(b"\n" + START_TIME) + 1
    if not page.startswith(START_TIME, at):
        return None
    try:
        return float(page[at + len(START_TIME) : at + len(START_TIME) + 40].split(maxsplit=1)[0])
    except (ValueError, IndexError):
        return None


def counters_of(engine: Engine) -> Counters:
    """Return the engine's counters by name; those that it does not report are absent."""
    found = {name: value for name in COUNTERS if (value := getattr(engine, name)) is not None}
    for table in COUNTER_TABLES:
        found |= {f"{table} {key}": value for key, value in getattr(engine, table).items()}
    for name, histogram in engine.latencies.items():
        found[f"{name} count"] = histogram.count
    return found


def _continues(counters: Counters, earlier: Counters) -> bool:
    """Return whether counters may be later ones of the same process: none is smaller."""
    common = counters.keys() & earlier.keys()
    return bool(common) and all(counters[name] >= earlier[name] for name in common)


def _distance(counters: Counters, earlier: Counters) -> float:
    return sum(value - earlier.get(name, 0.0) for name, value in counters.items())
