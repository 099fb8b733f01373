"""Means that do not depend on how often they are read."""

from __future__ import annotations

import pytest

from modelhost_exporter.gpu.recent_mean import RecentMean


def test_one_slow_reader_gets_the_mean_since_it_was_here() -> None:
    """A measurement longer than the window is the mean alone."""
    mean = RecentMean()
    mean.add(15, {2: 90.0})
    mean.add(15, {2: 30.0})
    assert mean.means() == {2: 30.0}


def test_reading_more_often_changes_nothing() -> None:
    """Two seconds at a time over ten seconds are the mean of the ten; what is older does not count."""
    mean = RecentMean()
    for value in (100.0, 100.0, 0.0, 50.0, 0.0, 50.0, 100.0):
        mean.add(2, {2: value})
    assert mean.means() == {2: 40.0}


def test_pieces_weigh_what_they_lasted() -> None:
    """A piece of a second is a tenth of one of ten."""
    mean = RecentMean()
    mean.add(9, {2: 0.0, 3: 5.0})
    mean.add(1, {2: 100.0, 3: 5.0})
    assert mean.means() == pytest.approx({2: 10.0, 3: 5.0})


def test_a_metric_that_stopped_is_absent_and_one_that_is_new_counts_from_its_first() -> None:
    """Each metric is the mean of the measurements that have it; the last one determines which are returned."""
    mean = RecentMean()
    mean.add(2, {2: 10.0, 3: 7.0})
    mean.add(2, {2: 30.0, 4: 1.0})
    assert mean.means() == {2: 20.0, 4: 1.0}


def test_what_was_forgotten_does_not_count() -> None:
    """After a gap the mean starts anew."""
    mean = RecentMean()
    mean.add(2, {2: 10.0})
    mean.clear()
    assert mean.means() == {}
    mean.add(2, {2: 30.0})
    assert mean.means() == {2: 30.0}
