from __future__ import annotations

import dataclasses
from typing import get_args

import pytest

from modelhost_exporter.demo.incidents import USUAL, Incident, IncidentSchedule, Kind, Situation

HOT = Incident("gpu_hot", 10, 20, "3")
OF_SERVERS = [kind for kind in get_args(Kind) if kind.startswith("server_")]


def test_an_incident_without_a_period_happens_once() -> None:
    """An incident lasts from its start for its duration, relative to the schedule's origin."""
    schedule = IncidentSchedule((HOT,), origin=1000)
    assert schedule.at(1009.9) == {}
    assert schedule.at(1010) == {HOT: 0.0}
    assert schedule.at(1025) == {HOT: 0.75}
    assert schedule.at(1030) == {}
    assert schedule.at(900) == {}
    assert schedule.at(1029.9)[HOT] == pytest.approx(0.995)


def test_an_incident_with_a_period_happens_again() -> None:
    """It begins again with every period."""
    schedule = IncidentSchedule((dataclasses.replace(HOT, period=100),), origin=1000)
    assert [bool(schedule.at(at)) for at in (1005, 1015, 1105, 1115, 1215)] == [False, True, False, True, True]


def test_a_situation_knows_what_has_just_begun_and_ended() -> None:
    """Each step reports starts and ends once, and an incident's progress for its target only."""
    situation = Situation(IncidentSchedule((HOT,)))
    situation.go_to(9)
    assert (situation.begun, situation.ended, situation.has("gpu_hot", 3)) == ((), (), False)
    situation.go_to(15)
    assert (situation.begun, situation.progress("gpu_hot", 3)) == ((HOT,), 0.25)
    assert not situation.has("gpu_hot", 2)
    assert not situation.has("gpu_lost", 3)
    situation.go_to(16)
    assert (situation.begun, situation.ended) == ((), ())
    situation.go_to(31)
    assert (situation.ended, situation.has("gpu_hot", 3)) == ((HOT,), False)


def test_incidents_repeat_every_hour_or_twice_a_day() -> None:
    """None lasts into its own next beginning, and those of one server do not overlap."""
    assert {one.period for one in USUAL.incidents} == {3600, 12 * 3600}
    assert all(one.duration <= one.period for one in USUAL.incidents)
    assert len({(one.kind, one.target) for one in USUAL.incidents}) == len(USUAL.incidents)
    for minute in range(12 * 60):
        affected = [one.target for one in USUAL.at(60.0 * minute) if one.kind in OF_SERVERS]
        assert len(affected) == len(set(affected)), minute
