"""The last finished requests, and those in progress."""

from __future__ import annotations

from itertools import count

from modelhost_exporter.requests.observation import Outcome, RequestLabels, RequestObservation
from modelhost_exporter.requests.recent import MAX_RECENT, RecentRequests
from modelhost_exporter.requests.running import RunningRequest, RunningRequests

LABELS = RequestLabels("s", "m", "chat")


def observation(duration: float = 1.0, *, operation: str = "chat", outcome: Outcome = "ok") -> RequestObservation:
    """Return a finished request."""
    labels = LABELS._replace(operation=operation)
    return RequestObservation(labels, stream=False, outcome=outcome, code="200", duration=duration)


def durations(recent: RecentRequests) -> list[float]:
    """Return the durations of the kept requests, by which these tests tell them apart."""
    return [request.observed.duration for request in recent.newest_first()]


def test_the_last_requests_are_kept_the_newest_first() -> None:
    """Each takes the place of the oldest one, with the time at which it was recorded."""
    recent = RecentRequests(now=map(float, count(1000)).__next__)
    for number in range(MAX_RECENT + 7):
        recent.add(observation(number))
    assert durations(recent) == list(range(MAX_RECENT + 6, 6, -1))
    assert recent.newest_first()[0].ended == 1000 + MAX_RECENT + 6


def test_requests_that_are_not_for_inference_are_kept_if_they_failed() -> None:
    """Health checks and lists of models would push out all others."""
    recent = RecentRequests()
    recent.add(observation(1, operation="other"))
    recent.add(observation(2, operation="other", outcome="client_error"))
    recent.add(observation(3))
    assert durations(recent) == [3, 2]


def test_switched_off_nothing_is_kept() -> None:
    """What was kept is forgotten; switched on again it starts empty."""
    recent = RecentRequests()
    recent.add(observation(1))
    recent.switch(on=False)
    recent.add(observation(2))
    assert durations(recent) == []
    recent.switch(on=True)
    recent.add(observation(3))
    assert durations(recent) == [3]


def test_requests_in_progress_are_listed_until_they_leave() -> None:
    """A change of state does not change when one began; the one that takes longest is the first."""
    now = 10.0
    running = RunningRequests(clock=lambda: now)
    first, second = object(), object()
    running.enter(first, LABELS._replace(model="unknown"), "blocking")
    now = 11.0
    running.enter(second, LABELS, "waiting")
    now = 12.5
    running.enter(first, LABELS, "streaming")
    assert running.longest_first() == [
        RunningRequest(LABELS, "streaming", 2.5),
        RunningRequest(LABELS, "waiting", 1.5),
    ]
    running.leave(first)
    running.leave(first)
    assert running.longest_first() == [RunningRequest(LABELS, "waiting", 1.5)]
