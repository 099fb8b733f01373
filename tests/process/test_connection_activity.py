"""Which timeout of a connection has expired."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from modelhost_exporter.process.connection_activity import ConnectionActivity, Phase

TIMEOUTS = SimpleNamespace(header_timeout=10.0, idle_timeout=75.0, body_timeout=60.0, send_timeout=30.0)


def begun() -> ConnectionActivity:
    """Return the activity of a connection that was made at 100 s."""
    activity = ConnectionActivity()
    activity.begin(100.0)
    return activity


@pytest.mark.parametrize(
    ("phase", "reason", "seconds"),
    [(Phase.HEADERS, "header_timeout", 10), (Phase.BODY, "body_timeout", 60), (Phase.IDLE, "idle_timeout", 75)],
)
def test_each_phase_has_its_timeout(phase: Phase, reason: str, seconds: float) -> None:
    """It expires only once it is exceeded."""
    activity = begun()
    assert activity.overdue(100.0 + seconds, phase, TIMEOUTS, is_sending=False) is None
    assert activity.overdue(100.1 + seconds, phase, TIMEOUTS, is_sending=False) == reason


def test_no_timeout_applies_while_a_request_is_served() -> None:
    """Idle time counts from the end of the request."""
    activity = begun()
    assert activity.overdue(1000.0, Phase.SERVED, TIMEOUTS, is_sending=False) is None
    assert activity.overdue(1075.0, Phase.IDLE, TIMEOUTS, is_sending=False) is None


def test_a_buffer_that_is_refilled_is_not_stalled() -> None:
    """Although the same number of bytes waits at each look, the count of sent ones grows."""
    activity = begun()
    for now in range(100, 200):
        is_sending = activity.update_sending(float(now), unsent=5000, sent=now)
        assert activity.overdue(float(now), Phase.SERVED, TIMEOUTS, is_sending=is_sending) is None
    is_sending = activity.update_sending(230.0, unsent=5000, sent=199)
    assert activity.overdue(230.0, Phase.SERVED, TIMEOUTS, is_sending=is_sending) == "send_timeout"
