"""A restart of the demo, as Prometheus computes rates over it: a counter's first value afterwards is an increase."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.demo.clock import SimulatedClock
from modelhost_exporter.demo.host import DemoHost
from modelhost_exporter.demo.incidents import IncidentSchedule
from modelhost_exporter.demo.profiles import RACK
from modelhost_exporter.demo.warm_up import warm_up
from modelhost_exporter.demo.world import SimulatedWorld
from tests.demo.conftest import START

if TYPE_CHECKING:
    from modelhost_exporter.demo.traffic import SimulatedRequest

_REAL = ("process_", "python_", "modelhost_scrape_")  # of the process that runs the test
_OF_A_LIFE = ("modelhost_nvme_",)  # a drive counts from its first day on
_TYPE = re.compile(r"^# TYPE (\S+) (counter|histogram)$", re.MULTILINE)
_SAMPLE = re.compile(r"^([^#\s{]\S*?)(?:\{.*\})? (\S+)$", re.MULTILINE)


def totals(page: str) -> dict[str, float]:
    """Return the sum of each counter, and of each histogram's values and their number, over all series."""
    rising = {name for name, _ in _TYPE.findall(page)}
    found: dict[str, float] = defaultdict(float)
    for name, value in _SAMPLE.findall(page):
        if re.sub(r"_(count|sum)$", "", name) in rising and not name.startswith((*_REAL, *_OF_A_LIFE)):
            found[name] += float(value)
    return found


@pytest.fixture(scope="module")
def pages() -> list[str]:
    """Return the pages of a live demo one second and half a minute after its start."""
    host = DemoHost(START, schedule=IncidentSchedule(), live=True)
    try:
        return [host.page(START + seconds).decode() for seconds in (1, 31)]
    finally:
        host.close()


def test_the_first_values_are_a_second_of_work(pages: list[str]) -> None:
    """No counter starts with more than it gains in the half minute that follows."""
    first, later = map(totals, pages)
    assert {"modelhost_gpu_energy_joules_total", "modelhost_network_receive_bytes_total"} <= first.keys()
    assert {name: (value, later[name]) for name, value in first.items() if value > 1 + later[name] - value} == {}


def test_the_load_is_there_from_the_start(pages: list[str]) -> None:
    """All GPUs are measured, those of the busiest server draw as much as later, and requests are in flight."""
    first, later = (
        {gpu: float(watts) for gpu, watts in re.findall(r'(?m)^modelhost_gpu_power_watts{gpu="(.)".* (.*)$', page)}
        for page in pages
    )
    assert len(first) == RACK.gpus
    assert first["0"] == pytest.approx(later["0"], rel=0.2)
    in_flight = re.findall(r"(?m)^modelhost_requests_in_flight{.*} (.*)$", pages[0])
    assert sum(map(float, in_flight)) > 0


class Recorded:
    """The requests in flight, and which of them stream."""

    def __init__(self) -> None:
        self.all: list[SimulatedRequest] = []
        self.streaming: list[SimulatedRequest] = []

    def arrived(self, request: SimulatedRequest) -> None:
        """Record a request."""
        self.all.append(request)

    def progressed(self, request: SimulatedRequest, tokens: int) -> None:
        """Do nothing."""

    def ended(self, request: SimulatedRequest) -> None:
        """Do nothing."""

    def streams(self, request: SimulatedRequest) -> None:
        """Record a stream."""
        self.streaming.append(request)


def test_the_listener_that_follows_gets_the_requests_in_flight() -> None:
    """Each request that a server processes is handed over once, and its first token if there was one."""
    world = SimulatedWorld(SimulatedClock(START), RACK, IncidentSchedule(), seed=1)
    recorded = Recorded()
    warm_up(world).hand_over(recorded)
    running = [request for engine in world.engines for request in engine.requests]
    assert running
    assert sorted(map(id, recorded.all)) == sorted(map(id, running))
    streams = {request for request in running if request.stream and request.first <= world.now}
    assert streams
    assert set(recorded.streaming) == streams
