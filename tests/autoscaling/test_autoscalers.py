"""The algorithms behave as the documentation of Kubernetes and KEDA describes."""

from __future__ import annotations

import pytest

from tests.autoscaling.autoscalers import HorizontalPodAutoscaler, Keda, proposal
from tests.autoscaling.manifests import Direction, Policy, Scaling, Signal

AT_ONCE = Direction(0, (Policy("Pods", 100, 15),))
AVERAGE = Signal("", target=10, is_average=True)
VALUE = Signal("", target=10, is_average=False)


@pytest.mark.parametrize(
    ("signal", "value", "replicas", "wanted"),
    [
        (AVERAGE, 41, 2, 5),
        (AVERAGE, 22, 2, 2),  # 1.1 times the target is within the tolerance
        (AVERAGE, 22.1, 2, 3),
        (AVERAGE, 18, 2, 2),
        (AVERAGE, 0, 2, 0),
        (VALUE, 20, 3, 6),
        (VALUE, 11, 3, 3),
        (VALUE, 4, 3, 2),
    ],
)
def test_proposals(signal: Signal, value: float, replicas: int, wanted: int) -> None:
    """The ratio of value and target, rounded up, unless it is within a tenth of 1."""
    assert proposal(signal, value, replicas) == wanted


def test_the_highest_proposal_counts_within_the_limits() -> None:
    """Of several signals the one that wants most replicas, at least the minimum and at most the maximum."""
    scaling = Scaling(2, 6, (AVERAGE, AVERAGE), AT_ONCE, AT_ONCE)
    scaler = HorizontalPodAutoscaler(scaling)
    assert [scaler.scale(at, 3, values) for at, values in enumerate([(41, 10), (0, 0), (1000, 0)])] == [5, 2, 6]


def test_a_signal_without_a_value_allows_no_scaling_down() -> None:
    """The others may still scale up."""
    scaler = HorizontalPodAutoscaler(Scaling(1, 9, (AVERAGE, AVERAGE), AT_ONCE, AT_ONCE))
    assert [scaler.scale(at, 3, values) for at, values in enumerate([(0, None), (51, None), (None, None)])] == [3, 6, 3]


def test_windows_choose_the_safest_proposal() -> None:
    """The highest of the last minute to scale down, the lowest of the last 30 s to scale up."""
    minute, half = Direction(60, AT_ONCE.policies), Direction(30, AT_ONCE.policies)
    scaler, replicas, course = HorizontalPodAutoscaler(Scaling(1, 9, (AVERAGE,), half, minute)), 1, []
    for at, value in enumerate([50, 50, 50, 50, 0, 0, 0, 0, 0]):
        replicas = scaler.scale(at * 15, replicas, [value])
        course.append(replicas)
    assert course == [5, 5, 5, 5, 5, 5, 5, 1, 1]  # nothing is known before the first proposal


@pytest.mark.parametrize(
    ("policy", "course"), [(Policy("Pods", 2, 60), [3, 3, 3, 3, 5]), (Policy("Percent", 100, 60), [2, 2, 2, 2, 4])]
)
def test_policies_limit_the_speed(policy: Policy, course: list[int]) -> None:
    """At most so much in the last so many seconds."""
    scaling = Scaling(1, 9, (AVERAGE,), Direction(0, (policy,)), AT_ONCE)
    scaler, replicas, found = HorizontalPodAutoscaler(scaling), 1, []
    for at in range(0, 75, 15):
        replicas = scaler.scale(at, replicas, [90])
        found.append(replicas)
    assert found == course


def test_keda_wakes_and_puts_to_sleep() -> None:
    """One replica at once, zero after the cooldown, and neither on an error."""
    keda, replicas, course = Keda(Scaling(0, 9, (AVERAGE,), AT_ONCE, AT_ONCE, cooldown=30)), 0, []
    for at, value in enumerate([0, 1, 1, 0, None, None, None, 0, 0]):
        replicas = keda.scale(at * 15, replicas, [value])
        course.append(replicas)
    assert course == [0, 1, 1, 1, 1, 1, 1, 0, 0]
