"""The shipped rules in a real Prometheus, and the shipped manifests, scale as a calculation by hand says."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.autoscaling.autoscalers import HorizontalPodAutoscaler, Keda
from tests.autoscaling.manifests import horizontal_pod_autoscaler, recording_rules, scaled_object
from tests.autoscaling.service import (
    CAPACITY,
    INTERVAL,
    RULES_LATER,
    SCALING_LATER,
    SECONDS_EACH,
    Scenario,
    changes,
    simulate,
    turns,
)
from tests.support import past

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tests.autoscaling.service import Course
    from tests.support.past import Past

START, SECONDS = 1_800_014_400, 5400
PAGE = (Path(__file__).parents[2] / "docs/autoscaling.md").read_text()
QUERIES = "".join(re.findall(r"```promql\n(.+?)```", PAGE, re.DOTALL)).splitlines()
ENDS = f"--query.lookback-delta={INTERVAL}s"
"""A series ends with its last sample, as after the mark that a scrape or a rule leaves; imported ones have none."""
PER_REPLICA = CAPACITY / SECONDS_EACH
"""Requests per second that one replica can serve."""


def day(now: int) -> float:
    """Return the arrivals of a calm hour with forty busy minutes: 4 requests per second, else 1."""
    return 4.0 if 600 <= now < 3000 else 1.0


def night(now: int) -> float:
    """Return the arrivals of a few requests after nothing, an hour of work, and nothing again."""
    if 300 <= now < 600:
        return 0.05
    return 1.0 if 600 <= now < 2400 else 0.0


SCENARIOS = {
    "queue": Scenario(scaled_object("keda-queue.yaml"), Keda, day),
    "queue-alone": Scenario(scaled_object("keda-queue.yaml").only(0), Keda, day),
    "batch": Scenario(scaled_object("keda-batch.yaml"), Keda, day),
    "slo": Scenario(scaled_object("keda-slo.yaml"), Keda, day),
    "slo-alone": Scenario(scaled_object("keda-slo.yaml").only(0), Keda, day),
    "zero": Scenario(scaled_object("keda-from-zero.yaml"), Keda, night),
    "hpa": Scenario(horizontal_pod_autoscaler(), HorizontalPodAutoscaler, day),
}


@pytest.fixture(scope="module")
def courses() -> Mapping[str, Course]:
    """Return each scenario in closed loop, scaled by signals worked out by hand."""
    return {name: simulate(name, scenario, START, SECONDS) for name, scenario in SCENARIOS.items()}


@pytest.fixture(scope="module")
def recorded(courses: Mapping[str, Course], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Past]:
    """Start a Prometheus with the scrapes of all scenarios, and what its rules record of them."""
    folder = tmp_path_factory.mktemp("scaled")
    past.blocks(folder, (line.encode() for course in courses.values() for line in course.samples))
    with past.serving(folder, ENDS) as server:
        records = [line for name, rule in recording_rules().items() for line in _results(server, name, rule)]
    past.blocks(folder, records)
    with past.serving(folder, ENDS) as server:
        yield server


def _results(server: Past, name: str, rule: str) -> Iterator[bytes]:
    for series in server.api.matrix(rule, START + RULES_LATER, START + SECONDS, INTERVAL):
        labels = ",".join(f'{label}="{value}"' for label, value in series["metric"].items())
        yield from (f"{name}{{{labels}}} {value} {at}\n".encode() for at, value in series["values"])


def _query(server: Past, name: str, query: str) -> list[float | None]:
    """Return what an autoscaler reads at each of its turns; fails where it is not one number."""
    query = query.replace('"models"', f'"{name}"')
    series = server.api.matrix(query, START + SCALING_LATER, START + SECONDS - 1, INTERVAL)
    assert len(series) == 1, query
    found = {at: float(value) for at, value in series[0]["values"]}
    return [found.get(float(START + SCALING_LATER + turn * INTERVAL)) for turn in range(SECONDS // INTERVAL)]


def _present(values: Iterable[float | None]) -> dict[int, float]:
    """Return the values that there are, by turn."""
    return {turn: value for turn, value in enumerate(values) if value is not None}


@pytest.mark.parametrize("name", SCENARIOS)
def test_rules_record_what_a_calculation_by_hand_gives(
    name: str, courses: Mapping[str, Course], recorded: Past
) -> None:
    """Each number, at every turn, of a service whose replicas come and go."""
    for record in recording_rules():
        values = _query(recorded, name, f'{record}{{namespace="models",server="chat"}}')
        expected = [step.signals[record] for step in courses[name].steps]
        assert _present(values) == pytest.approx(_present(expected), rel=1e-6, abs=1e-6), record


@pytest.mark.parametrize("name", SCENARIOS)
def test_queries_of_the_manifest_scale_alike(name: str, courses: Mapping[str, Course], recorded: Past) -> None:
    """An autoscaler that reads the manifest's own queries takes the same decisions at the same times."""
    scaling, make, _ = SCENARIOS[name]
    scaler, replicas, found = make(scaling), scaling.minimum, []
    values = [_query(recorded, name, signal.query) for signal in scaling.signals]
    for turn, now in zip(
        zip(*values, strict=True), range(START + SCALING_LATER, START + SECONDS, INTERVAL), strict=True
    ):
        replicas = scaler.scale(now, replicas, turn)
        found.append(replicas)
    assert found == [step.replicas for step in courses[name].steps]


def _replicas(course: Course) -> list[int]:
    return [step.replicas for step in course.steps]


def _at(course: Course, minute: int) -> int:
    return next(step.replicas for step in course.steps if step.time >= minute * 60)


@pytest.mark.parametrize(("name", "target"), [("queue", CAPACITY), ("hpa", CAPACITY), ("slo", CAPACITY), ("batch", 12)])
def test_replicas_are_those_that_the_load_needs(name: str, target: int, courses: Mapping[str, Course]) -> None:
    """Little's law: rate times duration are requests in the service, divided by those of one replica, rounded up."""
    course = courses[name]
    for minute in (9, 49, 89):
        assert _at(course, minute) == math.ceil(day(minute * 60) * SECONDS_EACH / target), minute


@pytest.mark.parametrize("name", ["queue", "hpa", "slo", "batch"])
def test_replicas_do_not_flap(name: str, courses: Mapping[str, Course]) -> None:
    """One rise and one fall for one rise and one fall of the load, and rest in between."""
    replicas = _replicas(courses[name])
    assert turns(replicas) == 1
    steady = [step.replicas for step in courses[name].steps if 1800 <= step.time < 3000]
    assert len(set(steady)) == 1
    assert steady[0] >= math.ceil(day(1800) / PER_REPLICA)


@pytest.mark.parametrize("name", ["queue-alone", "slo-alone"])
def test_a_queue_or_a_latency_alone_flaps(name: str, courses: Mapping[str, Course]) -> None:
    """Both are good while there are enough replicas, so that one is removed, and another needed soon."""
    steady = [step.replicas for step in courses[name].steps if 1500 <= step.time < 3000]
    assert turns(steady) >= 3
    assert min(steady) < math.ceil(day(1800) / PER_REPLICA)


def test_a_failed_request_wakes_the_service(courses: Mapping[str, Course]) -> None:
    """One replica within a scrape and a turn, as long as there are requests; none after the cooldown."""
    scaling = SCENARIOS["zero"].scaling
    course = courses["zero"]
    assert changes(_replicas(course)) == [0, 1, 0]
    woken = next(step.time for step in course.steps if step.replicas == 1)
    assert 300 <= woken <= 300 + INTERVAL + SCALING_LATER
    asleep = next(step.time for step in course.steps if step.time > woken and step.replicas == 0)
    assert f"`cooldownPeriod` ({scaling.cooldown:.0f} s)" in PAGE
    window, last_end = 120, 2400 + 10 * SECONDS_EACH
    assert 2400 + scaling.cooldown <= asleep <= last_end + window + scaling.cooldown + 2 * INTERVAL


@pytest.mark.parametrize("query", QUERIES)
def test_queries_of_the_page_have_data(query: str, recorded: Past) -> None:
    """Each is of one server; here in one of the namespaces."""
    query = query.replace("{", '{namespace="queue",')
    (series,) = recorded.api.vector(query, START + SECONDS - 30)
    assert float(series["value"][1]) > 0


@pytest.mark.parametrize(
    ("row", "name"),
    [("keda-queue.yaml, hpa.yaml", "queue"), ("keda-batch.yaml (12 at a time)", "batch"), ("keda-slo.yaml", "slo")],
)
def test_the_page_has_the_courses(row: str, name: str, courses: Mapping[str, Course]) -> None:
    """The table of docs/autoscaling.md is what the simulation gives, in the steady half hour too."""
    course = courses[name]
    steady = next(step.replicas for step in course.steps if step.time >= 1800)
    shown = " ".join(map(str, changes(_replicas(course))))
    assert f"| {row} | {shown} | {steady} |" in PAGE


@pytest.mark.parametrize(
    ("row", "name"),
    [("its first trigger alone, the queue", "queue-alone"), ("the latency objective alone", "slo-alone")],
)
def test_the_page_has_the_ranges(row: str, name: str, courses: Mapping[str, Course]) -> None:
    """Of what flaps, the fewest and the most replicas in the steady half hour."""
    steady = [step.replicas for step in courses[name].steps if 1500 <= step.time < 3000]
    (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| {row} ")]
    assert line.endswith(f"| {min(steady)} to {max(steady)} |")
