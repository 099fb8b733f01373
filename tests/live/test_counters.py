"""Increases of counters."""

from __future__ import annotations

import pytest

from modelhost_exporter.live.counters import increase


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
