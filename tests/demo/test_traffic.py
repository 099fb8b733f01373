from __future__ import annotations

import random

import pytest

from modelhost_exporter.demo import catalogue
from modelhost_exporter.demo.incidents import IncidentSchedule, Situation
from modelhost_exporter.demo.profiles import RACK
from modelhost_exporter.demo.traffic import SimulatedTraffic, day_curve

NOON = 1_800_014_400.0 // 86_400 * 86_400 + 12 * 3600


def test_a_day_has_a_busy_and_a_quiet_time() -> None:
    """Traffic is highest in the afternoon, lowest at night, never zero, and repeats every day."""
    hours = [day_curve(hour * 3600, RACK.quietest) for hour in range(24)]
    assert hours.index(max(hours)) == 15
    assert hours.index(min(hours)) == 3
    assert max(hours) == 1
    assert min(hours) == pytest.approx(0.4)
    assert day_curve(86_400 + 7 * 3600, RACK.quietest) == pytest.approx(hours[7])


def test_the_rate_is_the_model_s() -> None:
    """A model's requests in an hour match its rate and the time of day, within the statistical spread."""
    traffic = SimulatedTraffic(lambda _model, _at: None, random.Random(1), RACK)  # noqa: S311 - no secret
    situation = Situation(IncidentSchedule())
    requests = [request for at in range(3600) for request in traffic.between(NOON + at, NOON + at + 1, situation)]
    of_llama = [request for request in requests if request.model is RACK.models[0]]
    assert len(of_llama) == pytest.approx(3600 * RACK.models[0].rate * day_curve(NOON + 1800, RACK.quietest), rel=0.1)
    tokens = sum(request.input_tokens for request in of_llama) / len(of_llama)
    assert tokens == pytest.approx(RACK.models[0].input_tokens, rel=0.15)
    assert [request.arrived for request in requests] == sorted(request.arrived for request in requests)
    assert all(0 <= request.cached < request.input_tokens for request in requests)


def test_more_models_are_adapters_of_the_large_ones() -> None:
    """Any number of models is possible; each has a unique name and an existing server."""
    names = [model.name for model in catalogue.models(20)]
    assert len(set(names)) == 20
    assert {model.server for model in catalogue.models(20)} <= {server.name for server in catalogue.SERVERS}
    assert [model.name for model in catalogue.models(3)] == names[:3]
