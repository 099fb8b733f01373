"""Hosts that are down, of one name, or many, in a real Prometheus: what the dashboards show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from grafana import queries as q
from tests.grafana.boards import BOARDS
from tests.support import past
from tools import dashboard_queries as query
from tools.dashboard_queries import Question, View

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools.dashboard_queries import Prometheus

NOW, MINUTE, HOUR = past.START, 60, 3600
INFO = 'modelhost_build_info{version="1",python="3"}'
TIME = "modelhost_time_seconds"


def sampled(name: str, target: str, since: float, until: float, value: float | None = 1) -> Iterator[str]:
    """Yield a sample a minute of a series of a target, both times in seconds before now; without a value the time."""
    name, _, labels = name.rstrip("}").partition("{")
    series = f"{name}{{{','.join(filter(None, (target, labels)))}}}"
    for at in range(int(NOW - since), int(NOW - until) + 1, MINUTE):
        yield f"{series} {at if value is None else value} {at}\n"


def host(target: str, since: float, until: float, *, gone: bool = False) -> Iterator[str]:
    """Yield a host that is scraped for some time; then scrapes fail, or its target is taken away."""
    for name in (INFO, "up"):
        yield from sampled(name, target, since, until)
    yield from sampled(TIME, target, since, until, None)
    if until and not gone:
        yield from sampled("up", target, until - MINUTE, 0, 0)


def lines() -> Iterator[str]:
    """Yield the samples of the tests' hosts, by job."""
    for name in "ab":
        target = f'instance="{name}:8585",job="outage"'
        yield from host(target, 3 * HOUR, 1.5 * HOUR)
        yield from sampled('ALERTS{alertname="ExporterDown",alertstate="firing"}', target, 1.4 * HOUR, 0)
    yield from host('instance="a:8585",job="renamed"', 5 * HOUR, 4 * HOUR, gone=True)
    yield from host('instance="b:8585",job="renamed"', 2 * HOUR, 0)
    yield from sampled("up", 'instance="c:9100",job="node"', 3 * HOUR, 0, 0)
    yield from sampled("up", 'instance="d:8585",job="modelhost-old"', 3 * HOUR, 0, 0)
    for cluster, until in (("east", 0.0), ("west", 600.0)):
        target = f'cluster="{cluster}",instance="gpu-1",job="twins"'
        yield from host(target, HOUR, until)
        yield from sampled("instance:requests:rate5m", target, HOUR, until, 1 + bool(until))


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Start a Prometheus that has them as its past."""
    folder = tmp_path_factory.mktemp("hosts")
    past.blocks(folder, (line.encode() for line in lines()))
    with past.serving(folder) as server:
        yield server.api


def shown(api: Prometheus, board: str, panel: str, job: str) -> list[dict[str, Any]]:
    """Return the series of a panel's query for the hosts of one job."""
    view = View(NOW - HOUR, NOW, chosen={"job": [job]})
    (question,) = (each for each in query.questions(BOARDS[board]) if each.where == panel)
    return query.ask(api, question, view)


def number(api: Prometheus, board: str, panel: str, job: str) -> float | None:
    """Return the only value of a panel's query."""
    values = [float(series["value"][1]) for series in shown(api, board, panel, job)]
    assert len(values) <= 1
    return values[0] if values else None


def by_host(api: Prometheus, board: str, panel: str, job: str) -> dict[str, float]:
    """Return the values of a panel's query by host."""
    return {named(series): float(series["value"][1]) for series in shown(api, board, panel, job)}


def named(series: dict[str, Any]) -> str:
    """Return the cluster and the name of a series' host."""
    labels = series["metric"]
    return " ".join(labels[name] for name in ("cluster", "instance") if name in labels)


@pytest.mark.parametrize(
    ("job", "up", "down", "firing"),
    [("outage", 0, 2, 2), ("renamed", 1, 1, 0), ("twins", 1, 1, 0), ("node", None, 0, 0), ("modelhost-old", 0, 1, 0)],
)
def test_a_host_that_was_there_within_a_day_is_down(
    api: Prometheus, job: str, up: float | None, down: float, firing: float
) -> None:
    """So is each host of a job that is down as a whole, and one of two of one name; another exporter's is not."""
    panels = ("Hosts up A", "Hosts down A", "Alerts firing A")
    assert [number(api, "fleet", panel, job) for panel in panels] == [up, down, firing]


def test_data_is_as_old_as_the_last_scrape_that_succeeded(api: Prometheus) -> None:
    """Not as the last attempt; of a host that is gone too."""

    def ages(job: str) -> dict[str, float]:
        view = View(NOW - HOUR, NOW + 5, chosen={"job": [job]})
        found = query.ask(api, Question("", "panel", "age", q.age(), instant=True), view)
        return {named(series): float(series["value"][1]) for series in found}

    assert ages("outage") == {"a:8585": 1.5 * HOUR + 5, "b:8585": 1.5 * HOUR + 5}
    assert ages("renamed") == {"a:8585": 4 * HOUR + 5, "b:8585": 5}
    assert ages("twins") == {"east gpu-1": 5, "west gpu-1": 605}
