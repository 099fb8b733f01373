"""Statistics of the last minute, against those of a plain list of all requests."""

from __future__ import annotations

import math
import random
import threading
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelhost_exporter.live.last_minute import MAX_SAMPLE, NO_READING, LastMinute, MinuteReading
from modelhost_exporter.requests.observation import Outcome, RequestLabels, RequestObservation

KEY = ("s", "m")
_SLOT_SECONDS = 5


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def request(
    seconds: float, outcome: Outcome = "ok", model: str = "m", first: float | None = None
) -> RequestObservation:
    """Return a request for inference."""
    return RequestObservation(RequestLabels("s", model, "chat"), True, outcome, "200", seconds, first)


def quantiles(reading: MinuteReading) -> list[float | None]:
    """Return the three quantiles in ms."""
    return [reading.stats.p50_ms, reading.stats.p95_ms, reading.stats.p99_ms]


def nearest(durations: list[float]) -> list[float]:
    """Return the three quantiles of durations in ms, each the smallest with that share of them at or below it."""
    return [round(1e3 * sorted(durations)[math.ceil(share * len(durations)) - 1], 3) for share in (0.5, 0.95, 0.99)]


@given(st.lists(st.tuples(st.floats(0.001, 500), st.floats(0, 3)), min_size=1, max_size=150))
def test_quantiles_are_those_of_all_requests(requests: list[tuple[float, float]]) -> None:
    """Of each duration as it was, and never above the largest; the mean likewise."""
    clock = Clock()
    minute = LastMinute(clock)
    kept: list[tuple[float, float]] = []
    for seconds, pause in requests:
        clock.now += pause
        minute.add(request(seconds))
        kept.append((clock.now, seconds))
    oldest = (clock.now // _SLOT_SECONDS - 12) * _SLOT_SECONDS
    durations = [seconds for at, seconds in kept if at >= oldest]
    for reading in (minute.by_model()[KEY], minute.all_models()):
        assert quantiles(reading) == nearest(durations)
        assert reading.stats.requests == len(durations)
        assert reading.stats.mean_ms == pytest.approx(1e3 * fmean(durations), abs=1e-3)


def test_of_many_requests_a_fair_sample_is_kept() -> None:
    """A slow start and a fast rest: each has its share, though only 256 durations of five seconds are kept."""
    clock = Clock()
    minute = LastMinute(clock)
    durations = [*([9.0] * 1200), *([1.0] * 8000)]  # 13 % are slow
    for seconds in durations:
        minute.add(request(seconds))
    clock.now += 10
    minute.add(request(30.0))
    reading = minute.by_model()[KEY]
    assert (quantiles(reading), reading.stats.requests) == ([1000, 9000, 9000], 9201)
    assert len(minute._models[KEY]._slots[0].sample) == MAX_SAMPLE


def test_a_quantile_of_samples_is_near_that_of_all() -> None:
    """Of a smooth distribution, where slots have very different numbers of requests."""
    clock, rng = Clock(), random.Random(3)  # noqa: S311 - durations
    minute = LastMinute(clock)
    durations = []
    for count in (20, 5000, 300, 9000):
        for _ in range(count):
            durations.append(rng.lognormvariate(0, 0.5) * (3 if count == 20 else 1))
            minute.add(request(durations[-1]))
        clock.now += _SLOT_SECONDS
    found, expected = quantiles(minute.by_model()[KEY]), nearest(durations)
    for value, exact in zip(found, expected, strict=True):
        assert value == pytest.approx(exact, rel=0.25)


def test_the_minute_before_a_pause_stays() -> None:
    """With its age; the first request after the pause begins a new minute."""
    clock = Clock()
    minute = LastMinute(clock)
    assert minute.all_models() == NO_READING
    minute.add(request(100.0))
    clock.now += 70
    for seconds in (1.0, 2.0, 3.0):
        clock.now += 1
        minute.add(request(seconds))
    clock.now += 50
    assert (minute.all_models().is_current, minute.all_models().age) == (True, 50)
    clock.now += 3600
    paused = minute.by_model()[KEY]
    assert (paused.is_current, paused.age, quantiles(paused)) == (False, 3650, [2000, 3000, 3000])
    assert paused.current.requests == 0
    assert minute.by_model()[KEY].stats is paused.stats  # not computed again
    minute.add(request(8.0))
    assert quantiles(minute.by_model()[KEY]) == [8000, 8000, 8000]
    clock.now += 100
    assert quantiles(minute.by_model()[KEY]) == [8000, 8000, 8000]


def test_shares_and_first_tokens() -> None:
    """Client errors are neither; the time to the first token is that of successful streams."""
    minute = LastMinute(Clock())
    minute.add(request(1.0, first=0.2))
    minute.add(request(1.0, first=0.4))
    minute.add(request(1.0, "stream_error", first=9.0))
    minute.add(request(1.0, "client_error"))
    stats = minute.by_model()[KEY].stats
    assert (stats.requests, stats.eligible) == (4, 3)
    assert stats.error_percent == pytest.approx(100 / 3)
    assert stats.first_token_ms == 300


def test_models_are_separate_until_they_are_removed() -> None:
    """Those of all models together stay; what is not for inference is not counted."""
    minute = LastMinute(Clock())
    minute.add(request(1.0))
    minute.add(request(5.0, model="n"))
    minute.add(request(9.0)._replace(labels=RequestLabels("s", "m", "other")))
    assert quantiles(minute.by_model()["s", "n"]) == [5000] * 3
    minute.remove_model("s", "n")
    minute.remove_model("s", "never")
    assert minute.by_model().keys() == {KEY}
    assert minute.all_models().stats.requests == 2


def test_reading_while_requests_end() -> None:
    """Every reading is of whole requests: the mean is that of each of them."""
    clock = Clock()
    minute = LastMinute(clock)
    done = threading.Event()

    def add() -> None:
        for number in range(20_000):
            clock.now += 0.001 * (number % 7)
            minute.add(request(2.0))
        done.set()

    thread = threading.Thread(target=add)
    thread.start()
    while not done.is_set():
        for reading in (minute.all_models(), *minute.by_model().values()):
            assert reading.stats.mean_ms in (None, 2000)
    thread.join()
