from __future__ import annotations

from modelhost_exporter.security.authentication import Refusal
from modelhost_exporter.security.rate_limit import RateLimit, TokenBucket


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_a_burst_then_one_per_interval() -> None:
    """As many as the burst at once, then one for each interval; a pause fills the bucket up to the burst."""
    clock = Clock()
    bucket, limit = TokenBucket(clock), RateLimit(2.0, 3)
    assert [bucket.check(limit) is None for _ in range(4)] == [True, True, True, False]
    clock.now += 1
    refused = bucket.check(limit)
    assert isinstance(refused, Refusal)
    assert (refused.status, refused.retry_after) == (429, 1.0)
    clock.now += 1
    assert [bucket.check(limit) is None for _ in range(2)] == [True, False]
    clock.now += 1000
    assert [bucket.check(limit) is None for _ in range(4)] == [True, True, True, False]


def test_no_limit() -> None:
    """An interval of zero or less is none."""
    bucket = TokenBucket(Clock())
    assert all(bucket.check(RateLimit(interval, 0)) is None for interval in (0.0, -1.0) for _ in range(100))


def test_a_burst_of_zero_allows_nothing() -> None:
    """As in the toolkit."""
    clock = Clock()
    bucket = TokenBucket(clock)
    for _ in range(3):
        clock.now += 100
        assert bucket.check(RateLimit(1.0, 0)) is not None


def test_another_limit_begins_with_a_full_bucket() -> None:
    """A changed file holds at once, and a clock that goes back does no harm."""
    clock = Clock()
    bucket = TokenBucket(clock)
    assert bucket.check(RateLimit(1.0, 1)) is None
    assert bucket.check(RateLimit(1.0, 1)) is not None
    assert bucket.check(RateLimit(1.0, 2)) is None
    clock.now -= 50
    assert bucket.check(RateLimit(1.0, 2)) is None
    assert bucket.check(RateLimit(1.0, 2)) is not None
