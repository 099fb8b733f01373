"""Means and exact quantiles of the requests of the last minute, and of the minute before a pause."""

from __future__ import annotations

import math
import random
import time
from array import array
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.requests.observation import ERRORS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from modelhost_exporter.live.request_totals import ModelKey
    from modelhost_exporter.requests.observation import RequestObservation

_SLOT_SECONDS = 5.0
_SLOTS = 13
"""The running slot, and those of 60 s before it."""
MAX_SAMPLE, _MAX_SAMPLE_OF_ALL = 256, 1024
"""Durations that are kept of a slot, for a model and for all models together; of more, a random sample is."""
_QUANTILES = (0.5, 0.95, 0.99)
_MS = 1e3


class Sums(NamedTuple):
    """Sums over requests for inference."""

    requests: int = 0
    """Their number, whatever their outcome."""
    ok: int = 0
    errors: int = 0
    seconds: float = 0.0
    """The sum of their durations."""
    first_tokens: int = 0
    """Successful streams with a first token."""
    first_token_seconds: float = 0.0

    def with_request(self, observed: RequestObservation) -> Sums:
        """Return these sums with one more request."""
        is_ok, first = observed.outcome == "ok", observed.time_to_first_token
        has_first = is_ok and first is not None
        return Sums(
            self.requests + 1,
            self.ok + is_ok,
            self.errors + (observed.outcome in ERRORS),
            self.seconds + observed.duration,
            self.first_tokens + has_first,
            self.first_token_seconds + (first if has_first and first is not None else 0.0),
        )

    @property
    def eligible(self) -> int:
        """The number of successes and errors: client errors and disconnects are neither."""
        return self.ok + self.errors


class RequestStats(NamedTuple):
    """Statistics of the requests of a minute; None where there was none."""

    requests: int = 0
    eligible: int = 0
    """Successes and errors among them."""
    mean_ms: float | None = None
    error_percent: float | None = None
    """Errors in percent of successes and errors."""
    first_token_ms: float | None = None
    """Mean time to the first token of streams."""
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None


NO_STATS = RequestStats()


class MinuteReading(NamedTuple):
    """The statistics of one model, or of all together, at one moment."""

    stats: RequestStats = NO_STATS
    """Of the last minute; where that had no requests, of the minute before the last request."""
    age: float | None = None
    """Seconds since the last request; None without any."""
    is_current: bool = False
    """Whether there were requests in the last minute."""

    @property
    def current(self) -> RequestStats:
        """The statistics of the last minute."""
        return self.stats if self.is_current else NO_STATS


NO_READING = MinuteReading()


class LastMinute:
    """The requests for inference of the last 60 to 65 s: a request listener, read by the thread of the live feed.

    Memory is bounded by the number of model labels: 27 kB for each model whose slots are full.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without requests; ``clock`` is monotonic."""
        self._clock = clock
        self._all = _Window(_MAX_SAMPLE_OF_ALL)
        self._models: dict[ModelKey, _Window] = {}

    def add(self, observed: RequestObservation) -> None:
        """Count a finished request; called by one thread at a time, without a lock."""
        labels = observed.labels
        if not labels.is_inference:
            return
        key, now = (labels.server, labels.model), self._clock()
        if key not in self._models:
            self._models[key] = _Window(MAX_SAMPLE)
        self._models[key].add(now, observed)
        self._all.add(now, observed)

    def remove_model(self, server: str, model: str) -> None:
        """Remove a model whose series were removed; called by the thread that counts."""
        self._models.pop((server, model), None)

    def all_models(self) -> MinuteReading:
        """Return the statistics of all models together."""
        return self._all.read(self._clock())

    def by_model(self) -> Mapping[ModelKey, MinuteReading]:
        """Return the statistics of each model."""
        now = self._clock()
        return {key: window.read(now) for key, window in self._models.copy().items()}


class _Slot:
    """The requests of five seconds."""

    __slots__ = ("number", "sample", "sums")

    def __init__(self, number: int) -> None:
        self.number = number
        self.sums = Sums()
        self.sample = array("d")
        """Durations in seconds."""

    def add(self, observed: RequestObservation, max_sample: int) -> None:
        if len(self.sample) < max_sample:
            self.sample.append(observed.duration)
        else:  # algorithm R: each request of the slot is as likely to be in the sample
            at = random.randrange(self.sums.requests + 1)  # noqa: S311 - a sample
            if at < max_sample:
                self.sample[at] = observed.duration
        self.sums = self.sums.with_request(observed)  # last: a reader never finds a count without its duration


class _Window:
    """The slots of the minute that ends with the last request; written by one thread, read by another."""

    def __init__(self, max_sample: int) -> None:
        self._max_sample = max_sample
        self._slots: tuple[_Slot, ...] = ()
        self._last = 0.0
        self._paused: tuple[tuple[_Slot, ...], RequestStats] = ((), NO_STATS)
        """The statistics before a pause, computed once, and the slots that they are of."""

    def add(self, now: float, observed: RequestObservation) -> None:
        number = int(now // _SLOT_SECONDS)
        if not self._slots or self._slots[-1].number != number:
            self._slots = (*_within(self._slots, number), _Slot(number))
        self._slots[-1].add(observed, self._max_sample)
        self._last = now

    def read(self, now: float) -> MinuteReading:
        slots = self._slots
        if not slots:
            return NO_READING
        current = _within(slots, int(now // _SLOT_SECONDS))
        if current:
            return MinuteReading(_stats(current), max(0.0, now - self._last), is_current=True)
        if self._paused[0] is not slots:
            self._paused = (slots, _stats(slots))
        return MinuteReading(self._paused[1], now - self._last)


def _within(slots: Sequence[_Slot], number: int) -> list[_Slot]:
    """Return the slots of the minute whose running slot has this number."""
    return [slot for slot in slots if slot.number > number - _SLOTS]


def _stats(slots: Sequence[_Slot]) -> RequestStats:
    parts = [(slot.sums, slot.sample[:]) for slot in slots]  # copied without a switch of threads
    sums = Sums(*map(sum, zip(*(each for each, _ in parts), strict=True)))
    weighted = [(seconds, each.requests / len(sample)) for each, sample in parts for seconds in sample]
    p50, p95, p99 = _quantiles_ms(sorted(weighted))
    return RequestStats(
        sums.requests,
        sums.eligible,
        _mean_ms(sums.seconds, sums.requests),
        100.0 * sums.errors / sums.eligible if sums.eligible else None,
        _mean_ms(sums.first_token_seconds, sums.first_tokens),
        p50,
        p95,
        p99,
    )


def _quantiles_ms(durations: Sequence[tuple[float, float]]) -> list[float | None]:
    """Return quantiles of ascending durations in seconds with their weights: each is one of them (nearest rank)."""
    total = math.fsum(weight for _, weight in durations)
    found: list[float | None] = []
    passed, at = 0.0, -1
    for wanted in _QUANTILES:
        while at < len(durations) - 1 and passed < wanted * total * (1 - 1e-12):
            at += 1
            passed += durations[at][1]
        found.append(round(durations[at][0] * _MS, 3) if durations else None)
    return found


def _mean_ms(seconds: float, count: int) -> float | None:
    return round(seconds / count * _MS, 3) if count else None
