"""Hosts that are down, of one name, or many, in a real Prometheus: what the dashboards show."""

from __future__ import annotations

import itertools
import re
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from grafana import queries as q
from modelhost_exporter.demo.incidents import IncidentSchedule
from tests.grafana.boards import BOARDS
from tests.grafana.text_width import room_for_title, title_width
from tests.support import past
from tools import dashboard_queries as query
from tools import demo_history
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
    yield from sampled("instance:cpu_usage:ratio_rate5m", 'instance="b:8585",job="renamed"', HOUR, 0, 0)
    yield from sampled("up", 'instance="c:9100",job="node"', 3 * HOUR, 0, 0)
    yield from sampled("up", 'instance="d:8585",job="modelhost-old"', 3 * HOUR, 0, 0)
    for cluster, until in (("east", 0.0), ("west", 600.0)):
        target = f'cluster="{cluster}",instance="gpu-1",job="twins"'
        yield from host(target, HOUR, until)
        yield from sampled("instance:requests:rate5m", target, HOUR, until, 1 + bool(until))
        for name in ("available", "total"):
            yield from sampled(f"modelhost_host_memory_{name}_bytes", target, HOUR, 0, 1)
    for mode, seconds in (("user", 0), ("idle", 0), ("steal", None)):
        series = f'modelhost_cpu_seconds_total{{cpu="0",mode="{mode}"}}'
        yield from sampled(series, 'instance="v:8585",job="stolen"', HOUR, 0, seconds)


HOSTS, LINES, SECONDS = 60, 20, 3
LATER = re.compile(rb'cpu="(?![01]")|gpu="(?![01]")|link="(?!0")|le="(?!1"|1\.0"|10"|10\.0"|\+Inf")')
"""In series of a host's third core, GPU, bucket and so on."""
MANY = {"instance", "server", "model"}
"""Labels of which a fleet has any number of values; lines without them are few, such as limits by type."""
RECORDED = re.compile(r"instance:[\w:]+")


def many() -> Iterator[bytes]:
    """Yield five minutes of 60 hosts, each as the demo's but smaller, and what the rules record of each host."""
    begin = NOW - 5 * MINUTE
    pages = demo_history.scrapes(1, begin, 5 * MINUTE, MINUTE, models=2, schedule=IncidentSchedule())
    kept = b"".join(line for page in pages for line in page.splitlines(keepends=True) if not LATER.search(line))
    first = demo_history.instance(1).encode()
    names = {name for question in query.questions(BOARDS["fleet"]) for name in RECORDED.findall(question.expr)}
    for number in range(1, HOSTS + 1):
        host = demo_history.instance(number)
        yield kept.replace(first, host.encode())
        for name in names:
            target = f'instance="{host}",job="{demo_history.JOB}"'
            yield from (line.encode() for line in sampled(name, target, 5 * MINUTE, 0, number / HOSTS))


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Start a Prometheus that has them as its past."""
    folder = tmp_path_factory.mktemp("hosts")
    past.blocks(folder, itertools.chain((line.encode() for line in lines()), many()))
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
    [
        ("outage", 0, 2, 2),
        ("renamed", 1, 1, 0),
        ("twins", 1, 1, None),
        ("node", None, None, None),
        ("modelhost-old", 0, 1, None),
    ],
)
def test_a_host_that_was_there_within_a_day_is_down(
    api: Prometheus, job: str, up: float | None, down: float | None, firing: float | None
) -> None:
    """So is each host of a job that is down as a whole, and one of two of one name; another exporter's is not."""
    panels = ("Hosts up A", "Hosts down A", "Alerts firing A")
    assert [number(api, "fleet", panel, job) for panel in panels] == [up, down, firing]


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())
def test_nothing_is_shown_of_no_host(api: Prometheus, board: dict[str, Any]) -> None:
    """No number has a value, such as a green 0, where no host is; nor is there an alert where no rule is evaluated."""
    view = View(NOW - HOUR, NOW, chosen={"job": ["nowhere"], "model": [""]})
    for panel in query.panels(board):
        if panel["type"] == "stat" or panel["title"] == "Alerts":
            for question in query.panel_questions(board["title"], panel):
                assert query.ask(api, question, view) == [], question.where


def test_a_host_has_no_zero_alerts_while_no_rule_is_evaluated(api: Prometheus) -> None:
    """Else silence would look like health."""
    assert shown_in_table(api, "twins")["Alerts"] == {}
    assert shown_in_table(api, "renamed")["Alerts"] == {"a:8585": 0, "b:8585": 0}


def test_data_is_as_old_as_the_last_scrape_that_succeeded(api: Prometheus) -> None:
    """Not as the last attempt; of a host that is gone too."""

    def ages(job: str) -> dict[str, float]:
        view = View(NOW - HOUR, NOW + 5, chosen={"job": [job]})
        found = query.ask(api, Question("", "panel", "age", q.age(), instant=True), view)
        return {named(series): float(series["value"][1]) for series in found}

    assert ages("outage") == {"a:8585": 1.5 * HOUR + 5, "b:8585": 1.5 * HOUR + 5}
    assert ages("renamed") == {"a:8585": 4 * HOUR + 5, "b:8585": 5}
    assert ages("twins") == {"east gpu-1": 5, "west gpu-1": 605}


@pytest.mark.parametrize(
    ("job", "live", "age"),
    [("outage", 0, 1.5 * HOUR), ("renamed", 0.5, 4 * HOUR), ("twins", 0.5, 600), ("modelhost-old", 0, None)],
)
def test_the_overview_is_not_green_in_an_outage(api: Prometheus, job: str, live: float, age: float | None) -> None:
    """Its share of hosts that are up has those that are gone, and the age is that of the oldest data."""
    assert [number(api, "overview", panel, job) for panel in ("Live A", "Data age A")] == [live, age]


def test_a_core_that_the_hypervisor_gives_to_others_is_not_busy(api: Prometheus) -> None:
    """Stolen time is no work of this machine; the panel beside shows it."""
    (core,) = shown(api, "host", "CPU per core A", "stolen")
    assert float(core["values"][-1][1]) == 0
    modes = shown(api, "host", "CPU by mode A", "stolen")
    assert {each["metric"]["mode"]: float(each["values"][-1][1]) for each in modes} == {"user": 0, "steal": 1}


def test_hosts_of_one_name_in_two_clusters_are_two(api: Prometheus) -> None:
    """Neither is hidden by the other: of the one that is down, the last requests are still recorded."""
    columns = shown_in_table(api, "twins")
    assert columns["Up"] == {"east gpu-1": 1, "west gpu-1": 0}
    assert columns["Requests/s"] == {"east gpu-1": 1}
    assert columns["Last seen"] == {"east gpu-1": 0, "west gpu-1": 600}
    assert len(shown(api, "overview", "Memory A", "twins")) == 2


def test_a_host_that_is_down_is_a_row(api: Prometheus) -> None:
    """Also when all hosts of its job are, with when it was seen and with its alerts."""
    columns = shown_in_table(api, "outage")
    assert columns["Up"] == {"a:8585": 0, "b:8585": 0}
    assert columns["Last seen"] == {"a:8585": 1.5 * HOUR, "b:8585": 1.5 * HOUR}
    assert columns["Alerts"] == {"a:8585": 1, "b:8585": 1}
    assert columns["CPU"] == {}


def shown_in_table(api: Prometheus, job: str) -> dict[str, dict[str, float]]:
    """Return the columns of Fleet's table by their headings, with the value of each host of a job."""
    (panel,) = (each for each in query.panels(BOARDS["fleet"]) if each["type"] == "table")
    headings = panel["transformations"][1]["options"]["renameByName"]
    return {
        headings[f"Value #{target['refId']}"]: by_host(api, "fleet", f"{panel['title']} {target['refId']}", job)
        for target in panel["targets"]
    }


def test_the_worst_host_comes_first_in_red() -> None:
    """Rows are sorted by whether the host is up, then by its alerts; the row of one that is down is red."""
    (panel,) = (each for each in query.panels(BOARDS["fleet"]) if each["type"] == "table")
    assert panel["options"]["sortBy"] == [{"displayName": "Up", "desc": False}, {"displayName": "Alerts", "desc": True}]
    properties = properties_of(panel, "Up")
    assert properties["custom.cellOptions"] == {"type": "color-background", "mode": "basic", "applyToRow": True}
    mapping, *_ = properties["mappings"]
    assert {value: result["color"] for value, result in mapping["options"].items()} == {"0": "red", "1": "transparent"}


def properties_of(panel: dict[str, Any], column: str) -> dict[str, Any]:
    """Return the properties of the overrides of a column."""
    overrides = [each for each in panel["fieldConfig"]["overrides"] if each["matcher"]["options"] == column]
    return {each["id"]: each["value"] for override in overrides for each in override["properties"]}


def test_shares_of_a_host_are_gauges_and_its_name_a_link() -> None:
    """From 0 to 1; a GPU at work is not red. The link has the cluster, which hosts of one name differ in."""
    (panel,) = (each for each in query.panels(BOARDS["fleet"]) if each["type"] == "table")
    for name in ("CPU", "Memory", "Disk", "GPU", "VRAM"):
        found = properties_of(panel, name)
        assert found["custom.cellOptions"] == {"type": "gauge", "mode": "basic"}
        assert (found["min"], found["max"]) == (0, 1)
        assert ("thresholds" in found) != (name in ("GPU", "VRAM"))
    (link,) = properties_of(panel, "Instance")["links"]
    for name, field in (("cluster", "chosen_cluster"), ("instance", "Instance")):
        assert f'var-{name}=${{__data.fields["{field}"]:percentencode}}' in link["url"]


@pytest.mark.parametrize(("board", "panel"), [("fleet", "Hosts A"), ("host", "Hosts A"), ("overview", "Alerts A")])
def test_the_link_of_a_host_without_a_cluster_is_for_all(api: Prometheus, board: str, panel: str) -> None:
    """Grafana 9 leaves the macro of a label that there is not as it is: the dashboard of that cluster is empty."""

    def chosen(job: str) -> set[tuple[str | None, str]]:
        series = shown(api, board, panel, job)
        return {(each["metric"].get("cluster"), each["metric"]["chosen_cluster"]) for each in series}

    assert chosen("outage") == {(None, "All")}
    if "Hosts" in panel:
        assert chosen("twins") == {("east", "east"), ("west", "west")}


def test_headings_of_the_table_are_whole() -> None:
    """Each fits its column's least width, with the arrow of one that is sorted by; all fit a window of 1280 pixels."""
    (panel,) = (each for each in query.panels(BOARDS["fleet"]) if each["type"] == "table")
    headings = panel["transformations"][1]["options"]["renameByName"].values()
    widths = {heading: properties_of(panel, heading)["custom.minWidth"] for heading in headings}
    arrows = {each["displayName"]: 20 for each in panel["options"]["sortBy"]}
    cut = {name for name, width in widths.items() if title_width(name) + 2 * 8 + arrows.get(name, 0) > width}
    assert not cut
    assert sum(widths.values()) <= room_for_title(24, 1280)


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())
def test_sixty_hosts_are_a_few_lines_each_and_no_query_is_slow(api: Prometheus, board: dict[str, Any]) -> None:
    """A graph or timeline draws at most 20 lines of hosts, in all queries together; a table has a row for each."""
    opening = View(NOW - 3 * MINUTE, NOW, scrape_interval=MINUTE, chosen={"job": [demo_history.JOB]})
    view = query.opened(api, board, opening)
    drawn: Counter[str] = Counter()
    for panel in query.panels(board):
        for question in query.panel_questions(board["title"], panel):
            began = time.monotonic()
            series = query.ask(api, question, view)
            assert time.monotonic() - began < SECONDS, question
            if panel["type"] in ("timeseries", "state-timeline"):
                drawn[panel["title"]] += sum(bool(MANY & each["metric"].keys()) for each in series)
    assert drawn
    assert {title: lines for title, lines in drawn.items() if lines > LINES} == {}
