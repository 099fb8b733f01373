"""Which upstream a request goes to, and when one receives none: without I/O, on a clock of the test's own."""

from __future__ import annotations

from collections import Counter

import pytest

from modelhost_exporter.proxy.balancing import LEAST_REQUESTS, PREFIX_HASH, Balancer, Replica


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


def balancer_of(count: int, policy: str = LEAST_REQUESTS) -> tuple[Balancer[str], Clock]:
    """Return a balancer of replicas a, b, c …, and its clock."""
    clock = Clock()
    names = "abcdefgh"[:count]
    return Balancer([Replica(name, name) for name in names], policy, clock), clock


def send(balancer: Balancer[str], *, failed: bool | None = False, sticky: bytes | None = None) -> str:
    """Send one request that ends at once, and return its replica."""
    choice = balancer.begin(sticky)
    assert choice is not None
    balancer.end(choice, failed=failed)
    return choice.replica.upstream


def fail(balancer: Balancer[str], name: str, times: int = 1) -> None:
    """Let a replica fail so often in a row, whichever requests the others receive meanwhile."""
    replica = next(each for each in balancer.replicas if each.upstream == name)
    others = [each for each in balancer.replicas if each is not replica]
    for _ in range(times):
        choice = balancer.begin(tried=others)
        assert choice is not None
        balancer.end(choice, failed=True)


def test_requests_go_where_the_fewest_are() -> None:
    """Idle replicas take turns; a busy one is left out until it is as free as the others."""
    balancer, _ = balancer_of(3)
    assert Counter(send(balancer) for _ in range(30)) == {"a": 10, "b": 10, "c": 10}
    held = balancer.begin()
    assert held is not None
    assert held.replica.upstream not in {send(balancer) for _ in range(10)}
    balancer.end(held, failed=False)
    assert held.replica.upstream in {send(balancer) for _ in range(10)}


def test_long_requests_count_for_more() -> None:
    """A replica with one request of many tokens receives none while others have several short ones."""
    balancer, _ = balancer_of(2)
    long = balancer.begin(tokens=10_000)
    assert long is not None
    short = [balancer.begin(tokens=10) for _ in range(5)]
    assert {choice.replica.upstream for choice in short if choice} == {"ab".replace(long.replica.upstream, "")}


def test_equal_beginnings_go_to_one_replica() -> None:
    """Many beginnings spread over all; each stays with its replica while others come and go."""
    balancer, _ = balancer_of(4, PREFIX_HASH)
    keys = [str(number).encode() for number in range(400)]
    first = {key: send(balancer, sticky=key) for key in keys}
    assert all(count > 50 for count in Counter(first.values()).values())
    assert {key: send(balancer, sticky=key) for key in keys} == first
    fail(balancer, "a", 3)
    moved = {key for key in keys if send(balancer, sticky=key) != first[key]}
    assert moved == {key for key in keys if first[key] == "a"}


def test_a_replica_with_too_much_load_is_relieved() -> None:
    """One beginning that everybody sends does not go to one replica alone."""
    balancer, _ = balancer_of(4, PREFIX_HASH)
    held = [balancer.begin(b"the same") for _ in range(40)]
    counts = Counter(choice.replica.upstream for choice in held if choice)
    assert len(counts) >= 3
    assert max(counts.values()) <= 40 / 4 * 1.25 + 3


@pytest.mark.parametrize("policy", [LEAST_REQUESTS, PREFIX_HASH])
def test_a_replica_that_fails_is_left_out(policy: str) -> None:
    """Three failures in a row eject it for 5 s; the trial after that decides, and each ejection is twice as long."""
    balancer, clock = balancer_of(3, policy)
    fail(balancer, "b", 3)
    for seconds in (5, 10, 20, 40):
        assert "b" not in {send(balancer) for _ in range(20)}
        clock.now += seconds - 0.001
        assert "b" not in {send(balancer) for _ in range(20)}
        clock.now += 0.002
        assert send(balancer, failed=True) == "b"
    clock.now += 80.001
    assert send(balancer) == "b"
    assert "b" in {send(balancer) for _ in range(3)}


def test_an_ejection_is_forgotten_after_a_while() -> None:
    """After 30 s without a failure the next ejection is a short one again."""
    balancer, clock = balancer_of(3)
    fail(balancer, "b", 3)
    clock.now += 5.001
    assert send(balancer) == "b"
    clock.now += 31
    {send(balancer) for _ in range(6)}
    fail(balancer, "b", 3)
    clock.now += 5.001
    assert send(balancer) == "b"


def test_one_trial_at_a_time() -> None:
    """While a trial is in flight nothing else is sent there; an older request that ends decides nothing."""
    balancer, clock = balancer_of(2)
    old = balancer.begin(tried=balancer.replicas[:1])
    fail(balancer, "b", 3)
    clock.now += 5.001
    trial = balancer.begin()
    assert trial is not None
    assert trial.replica.upstream == "b"
    assert trial.replica.trial is trial
    assert old is not None
    balancer.end(old, failed=False)
    assert {send(balancer) for _ in range(10)} == {"a"}
    balancer.end(trial, failed=False)
    assert {send(balancer) for _ in range(10)} == {"a", "b"}


def test_a_trial_that_says_nothing_is_repeated() -> None:
    """A client that leaves during the trial does not keep the replica out."""
    balancer, clock = balancer_of(2)
    fail(balancer, "b", 3)
    clock.now += 5.001
    assert send(balancer, failed=None) == "b"
    assert send(balancer) == "b"
    assert not balancer.replicas[1].is_ejected


def test_a_share_of_failures_is_enough() -> None:
    """Every second request of ten or more within half a minute; one of four is not."""
    balancer, clock = balancer_of(2)
    others = balancer.replicas[:1]
    for number in range(40):
        choice = balancer.begin(tried=others)
        assert choice is not None
        balancer.end(choice, failed=number % 4 == 0)
        clock.now += 0.1
    assert not balancer.replicas[1].is_ejected
    for number in range(90):
        choice = balancer.begin(tried=others)
        assert choice is not None
        balancer.end(choice, failed=number % 3 != 0)
        clock.now += 0.1
    assert balancer.replicas[1].is_ejected


@pytest.mark.parametrize(("count", "most"), [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)])
def test_half_of_the_replicas_stay(count: int, most: int) -> None:
    """When all fail, at most half are ejected, and requests go on."""
    balancer, _ = balancer_of(count)
    for name in "abcdefgh"[:count]:
        fail(balancer, name, 10)
    assert sum(replica.is_ejected for replica in balancer.replicas) == most
    assert send(balancer)


def test_each_replica_is_tried_once() -> None:
    """For one request; then there is none."""
    balancer, _ = balancer_of(3)
    tried: list[Replica[str]] = []
    while choice := balancer.begin(tried=tried):
        tried.append(choice.replica)
        balancer.end(choice, failed=True)
    assert sorted(replica.upstream for replica in tried) == ["a", "b", "c"]


def test_a_request_from_before_an_ejection_decides_nothing_after_it() -> None:
    """Those that began while the replica hung may time out long after its recovery."""
    balancer, clock = balancer_of(2)
    old = [balancer.begin(tried=balancer.replicas[:1]) for _ in range(10)]
    fail(balancer, "b", 3)
    clock.now += 5.001
    assert send(balancer) == "b"
    for choice in old:
        assert choice is not None
        balancer.end(choice, failed=True)
    assert not balancer.replicas[1].is_ejected
    assert balancer.replicas[1].requests == 0


def test_a_trial_may_be_judged_before_its_end() -> None:
    """Its end then says nothing, and does not end another trial."""
    balancer, clock = balancer_of(2)
    fail(balancer, "b", 3)
    clock.now += 5.001
    first = balancer.begin()
    assert first is not None
    balancer.judge(first, failed=False)
    assert not balancer.replicas[1].is_ejected
    fail(balancer, "b", 3)
    clock.now += 10.001
    second = balancer.begin()
    assert second is not None
    balancer.end(first, failed=None)
    assert balancer.replicas[1].trial is second
    assert balancer.replicas[1].requests == 1


def test_overload_is_measured_by_the_replicas_in_use() -> None:
    """With half of the replicas ejected, the others still share what everybody sends."""
    balancer, _ = balancer_of(4, PREFIX_HASH)
    fail(balancer, "a", 3)
    fail(balancer, "b", 3)
    held = [balancer.begin(b"the same") for _ in range(40)]
    counts = Counter(choice.replica.upstream for choice in held if choice)
    assert counts.keys() == {"c", "d"}
    assert max(counts.values()) <= 40 / 2 * 1.25 + 3


def test_equal_ones_take_turns_beside_a_busy_one() -> None:
    """A replica that is left out does not give its share to its neighbour."""
    balancer, _ = balancer_of(3)
    held = balancer.begin()
    assert held is not None
    assert sorted(Counter(send(balancer) for _ in range(30)).values()) == [15, 15]
