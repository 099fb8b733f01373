"""Accuracy of the quantiles of the request histograms."""

from __future__ import annotations

from itertools import pairwise

import pytest

from modelhost_exporter.requests.metrics import (
    DURATION,
    FAMILIES,
    TTFT,
)
from tools.bucket_error import largest_median_error

GENAI_DURATION = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
GENAI_TTFT = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
SECONDS = [family for family in FAMILIES if family.type == "histogram" and family.name.endswith("_seconds")]


def median(bounds: tuple[float, ...], seconds: float) -> float:
    """Return the median that Prometheus computes when all requests take the same time."""
    return next((lower + upper) / 2 for lower, upper in pairwise(bounds) if lower < seconds <= upper)


def test_the_error_is_half_of_the_width_over_the_middle() -> None:
    """With bounds 1, 2, 4 a median of 1.5 is off by at most 0.5; a range limits which buckets count."""
    assert largest_median_error((1, 2, 4)) == pytest.approx(1 / 3)
    assert largest_median_error((1, 1.5, 15), high=1.5) == pytest.approx(0.2)


@pytest.mark.parametrize("family", SECONDS, ids=lambda family: family.name)
def test_no_median_is_far_off(family: object) -> None:
    """The error is at most 35 % between the first and the last bound, and the bounds increase."""
    bounds = family.buckets  # type: ignore[attr-defined] # a Family
    assert list(bounds) == sorted(set(bounds))
    assert largest_median_error(bounds) <= 0.35


@pytest.mark.parametrize("bounds", [DURATION, TTFT], ids=["duration", "time to first token"])
def test_medians_between_10_ms_and_60_s_are_close(bounds: tuple[float, ...]) -> None:
    """The error is at most 20 % between 10 ms and 60 s."""
    assert largest_median_error(bounds, 0.01, 60) <= 0.2 + 1e-9


def test_requests_of_41_seconds_have_a_median_close_to_it() -> None:
    """A regression test: with earlier bounds it was 61 s."""
    assert median(DURATION, 41) < 51


@pytest.mark.parametrize(("bounds", "advised"), [(DURATION, GENAI_DURATION), (TTFT, GENAI_TTFT)])
def test_bounds_that_opentelemetry_advises_are_there(bounds: tuple[float, ...], advised: tuple[float, ...]) -> None:
    """So are those of common objectives; the highest ones cover agents and batches."""
    assert set(advised) | {0.1, 0.5, 1, 5} <= set(bounds)
    assert DURATION[-1] == 7200
