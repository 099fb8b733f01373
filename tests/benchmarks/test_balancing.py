"""The simulation of three replicas, of which one is slow, one fails and one hangs for a while."""

from __future__ import annotations

from benchmarks.balancing import balanced, round_robin


def test_the_balancer_is_better_than_round_robin() -> None:
    """A tenth of the errors at most, and three quarters of the latency at the 95th percentile."""
    before, after = round_robin(), balanced()
    assert before.error_share > 0.1
    assert after.error_share < before.error_share / 10
    assert after.p95 < before.p95 * 0.75
    assert after.p50 <= before.p50
