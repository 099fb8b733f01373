from __future__ import annotations

import pytest

from modelhost_exporter.gpu.sysfs.awake_time import AwakeTime
from tests.gpu.conftest import Clock


def shown(awake: AwakeTime) -> list[float | None]:
    """Return share and sum, rounded."""
    return [None if number is None else round(number, 6) for number in (awake.share, awake.seconds)]


def test_time_awake_is_what_was_not_idle() -> None:
    """The first reading is where counting begins; the share is that since the reading before."""
    clock = Clock()
    awake = AwakeTime(clock)
    awake.note({"gt0": 100.0}, None)
    assert shown(awake) == [None, 0]
    clock.seconds += 10
    awake.note({"gt0": 102.5}, None)
    assert shown(awake) == [0.75, 7.5]
    clock.seconds += 10
    awake.note({"gt0": 112.6}, None)
    assert shown(awake) == [0, 7.5]


def test_of_several_parts_the_busiest_counts() -> None:
    """A GPU works while any of its parts does; one that disappears or begins again does not count."""
    clock = Clock()
    awake = AwakeTime(clock)
    awake.note({"gt0": 0.0, "gt1": 50.0, "gt2": 9.0}, None)
    clock.seconds += 10
    awake.note({"gt0": 10.0, "gt1": 56.0, "gt2": 0.5}, None)
    assert awake.share == pytest.approx(0.4)
    clock.seconds += 10
    awake.note({"gt9": 1.0}, None)
    assert shown(awake) == [None, 4]


def test_a_suspended_gpu_is_not_awake() -> None:
    """Its counter of idle time stands still too."""
    clock = Clock()
    awake = AwakeTime(clock)
    awake.note({"gt0": 5.0}, 100.0)
    clock.seconds += 60
    awake.note({"gt0": 8.0}, 104.0)
    assert shown(awake) == [round(1 / 60, 6), 1]


def test_readings_in_a_row_are_not_compared() -> None:
    """Two scrapes within milliseconds would make noise of the counters' steps."""
    clock = Clock()
    awake = AwakeTime(clock)
    awake.note({"gt0": 0.0}, None)
    clock.seconds += 10
    awake.note({"gt0": 5.0}, None)
    clock.seconds += 0.01
    awake.note({"gt0": 5.0}, None)
    assert shown(awake) == [0.5, 5]
    clock.seconds += 9.99
    awake.note({"gt0": 15.0}, None)
    assert awake.seconds == pytest.approx(5)


def test_without_counters_nothing_is_known() -> None:
    """A kernel that does not count idle time, or no longer does."""
    awake = AwakeTime(Clock())
    awake.note({}, None)
    assert shown(awake) == [None, None]
