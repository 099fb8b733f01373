from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelhost_exporter.config.duration import parse_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5),
        ("500ms", 0.5),
        ("1m30s", 90),
        ("1m", 60),
        ("1h", 3600),
        ("1d2h3m4s5ms", 93784.005),
        ("0.5s", 0.5),
        ("1m5ms", 60.005),
        (5, 5),
        (0.25, 0.25),
    ],
)
def test_durations(text: str | float, seconds: float) -> None:
    """A Prometheus duration or a number is parsed as seconds."""
    assert parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "5", "s", "5 s", " 5s", "-5s", "5s1m", "1.5m", "5sec", "5S", "1s1s", "ms", "5s\n", "1,5s", True, None, [5]],
)
def test_anything_else_is_no_duration(text: object) -> None:
    """Anything else is rejected, with an example of a valid duration."""
    with pytest.raises(ValueError, match="is not a duration such as 5s, 500ms or 1m30s"):
        parse_seconds(text)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["0s", "0", 0, 0.0, -1, -0.5, float("nan"), "0h0m0s"])
def test_a_duration_is_more_than_zero(text: str | float) -> None:
    """Zero and negative durations are rejected."""
    with pytest.raises(ValueError, match="is not a duration"):
        parse_seconds(text)


@pytest.mark.parametrize("text", ["3651d", "99999999999s", "9" * 400 + "s", 1e11, 10**400, float("inf")])
def test_a_duration_can_be_waited_for(text: str | float) -> None:
    """A duration that is too long for the system's wait functions is rejected when it is parsed."""
    with pytest.raises(ValueError, match="is longer than ten years"):
        parse_seconds(text)


@given(st.integers(0, 400), st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.integers(1, 999))
def test_parts_add_up(days: int, hours: int, minutes: int, seconds: int, milliseconds: int) -> None:
    """Every combination of units is the sum of its parts."""
    text = f"{days}d{hours}h{minutes}m{seconds}s{milliseconds}ms"
    assert parse_seconds(text) == pytest.approx(
        days * 86400 + hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
    )
