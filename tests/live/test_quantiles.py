from __future__ import annotations

import math
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelhost_exporter.live.quantiles import increase, quantile
from modelhost_exporter.requests.metrics import DURATION
from tests.support.programs import installed

if TYPE_CHECKING:
    from pathlib import Path

BOUNDS = (*DURATION, math.inf)
COUNTS = st.lists(st.integers(0, 1000), min_size=len(BOUNDS), max_size=len(BOUNDS))


def _cumulative(counts: list[int]) -> list[float]:
    return [float(sum(counts[: index + 1])) for index in range(len(counts))]


def _reference(wanted: float, counts: list[int]) -> float | None:
    """Return the quantile by linear search and interpolation: the reference implementation."""
    left = wanted * sum(counts)
    lower = 0.0
    for bound, count in zip(BOUNDS, counts, strict=True):
        if count and left <= count:
            return DURATION[-1] if bound == math.inf else lower + (bound - lower) * left / count
        left -= count
        lower = bound
    return None


@given(COUNTS, st.sampled_from([0.5, 0.95, 0.99]))
def test_a_quantile_is_where_a_walk_through_the_buckets_finds_it(counts: list[int], wanted: float) -> None:
    """For any counts the quantile equals that of the reference; an empty histogram has none."""
    found, expected = quantile(wanted, BOUNDS, _cumulative(counts)), _reference(wanted, counts)
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-9))


@given(COUNTS)
def test_quantiles_do_not_cross(counts: list[int]) -> None:
    """A higher quantile is never less than a lower one, and none is beyond the last finite bound."""
    found = [quantile(wanted, BOUNDS, _cumulative(counts)) or 0.0 for wanted in (0.5, 0.95, 0.99)]
    assert found == sorted(found)
    assert found[-1] <= DURATION[-1]


def test_a_quantile_is_prometheus_own(tmp_path: Path) -> None:
    """histogram_quantile() of the same buckets gives the same number, to the last digit, in each of three shapes."""
    size = len(BOUNDS)
    shapes = {"one": [0] * 3 + [7] + [0] * (size - 4), "wide": list(range(size)), "far": [5] + [0] * (size - 2) + [30]}
    series, tests = "", ""
    for name, counts in shapes.items():
        cumulative = _cumulative(counts)
        for bound, count in zip(BOUNDS, cumulative, strict=True):
            le = "+Inf" if bound == math.inf else repr(bound)
            series += f"      - {{series: 'h_bucket{{shape=\"{name}\",le=\"{le}\"}}', values: '{count:g}'}}\n"
        for wanted in (0.5, 0.95, 0.99):
            value = quantile(wanted, BOUNDS, cumulative)
            labels = f"'{{shape=\"{name}\"}}'"
            tests += f'      - expr: histogram_quantile({wanted}, h_bucket{{shape="{name}"}})\n'
            tests += f"        eval_time: 0m\n        exp_samples: [{{labels: {labels}, value: {value!r}}}]\n"
    file = tmp_path / "test.yml"
    file.write_text(f"tests:\n  - interval: 1m\n    input_series:\n{series}    promql_expr_test:\n{tests}")
    told = subprocess.run([installed("promtool"), "test", "rules", file], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], None),
        ([5.0], None),
        ([5.0, None], None),
        ([5.0, 7.0, 7.0, 10.0], 5.0),
        ([5.0, None, 10.0], 5.0),
        ([100.0, 110.0, 3.0, 4.0], 14.0),
    ],
)
def test_an_increase_handles_resets_and_gaps(values: list[float | None], expected: float | None) -> None:
    """A lower value is a reset to 0, like in Prometheus; a missing value is skipped."""
    assert increase(values) == expected
