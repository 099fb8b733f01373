"""Marks and the lane of alerts: how many Grafana draws, and where, whatever the time range."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.grafana.boards import BOARDS
from tests.support import past
from tools import dashboard_queries as query
from tools.dashboard_queries import View

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DAY = 24 * 3600
END = time.time() // 900 * 900
BEGIN = END - 5 * 3600
RESTART, RELOAD, CHANGE, BACK = (END - minutes * 60 + 7 for minutes in (70, 55, 40, 25))
"""When host a's exporter restarted and reloaded, when its driver was changed (for 5 minutes), its engine came back."""
LOOPS = 50
"""Hosts that restart once a minute."""
WITH_EVENTS = {name: board for name, board in BOARDS.items() if name != "fleet"}
ANNOTATIONS = (
    *("Exporter restarts", "Configuration reloads"),
    *("Host restarts", "Model server restarts", "GPU driver changes"),
)
OFF = {"Alerts", "Loads", "Unloads"}


def samples() -> Iterator[str]:
    """Yield the history of host a, and of many that restart all the time, as OpenMetrics text."""
    of_a = 'cluster="east",job="modelhost",instance="a"'
    hosts = {"a": RESTART} | {f"loop{number}": 0.0 for number in range(LOOPS)}
    times = [BEGIN + 15 * number for number in range(int((END - BEGIN) // 15) + 1)]
    series: dict[str, Mapping[float, float]] = {}
    for host, started in hosts.items():
        target = f'cluster="east",job="modelhost",instance="{host}"'
        begun = {at: (started if at > started else BEGIN - DAY) if started else at // 60 * 60 for at in times}
        series[f"process_start_time_seconds{{{target}}}"] = begun
        series[f'modelhost_build_info{{{target},version="1"}}'] = dict.fromkeys(times, 1)
    reload = "modelhost_config_last_reload_success_timestamp_seconds"
    series[f"{reload}{{{of_a}}}"] = {
        at: RELOAD if at > RELOAD else RESTART + 1 if at > RESTART else BEGIN - DAY + 1 for at in times
    }
    series[f"modelhost_boot_time_seconds{{{of_a}}}"] = dict.fromkeys(times, BEGIN - DAY)
    info = f'modelhost_gpu_info{{{of_a},gpu="0",driver_version='
    series[info + '"550"}'] = {at: 1 for at in times if at < CHANGE}
    series[info + '"560"}'] = {at: 1 for at in times if at > CHANGE + 300}
    series[f'modelhost_engine_up{{{of_a},server="vllm"}}'] = {at: 0 if BACK - 300 < at < BACK else 1 for at in times}
    loads = f'modelhost_model_loads_total{{{of_a},server="vllm",model="tiny"}}'
    series[loads] = {at: 2 if at > BACK else 1 for at in times}
    firing = f'{of_a},alertname="GpuHot",severity="critical"'
    series[f'ALERTS{{{firing},alertstate="firing"}}'] = dict.fromkeys(times, 1)
    series[f"ALERTS_FOR_STATE{{{firing}}}"] = dict.fromkeys(times, BEGIN + 60)
    series[f'ALERTS{{{of_a},alertname="Disk",severity="warning",alertstate="firing"}}'] = dict.fromkeys(times[-9:], 1)
    for number in range(8):
        ended = f'{of_a},alertname="Ended{number}",severity="critical",alertstate="firing"'
        series[f"ALERTS{{{ended}}}"] = {at: 1 for at in times if at < END - 60 * (10 + number)}
    evaluated = 'cluster="east",job="modelhost",instance="loop1"'
    series[f"instance:cpu_usage:ratio_rate5m{{{evaluated}}}"] = dict.fromkeys(times, 0)
    for name, values in series.items():
        yield from (f"{name} {value:.0f} {at:.0f}" for at, value in values.items())


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[query.Prometheus]:
    """Start a real Prometheus with that history."""
    folder = tmp_path_factory.mktemp("prometheus")
    past.blocks(folder, (f"{sample}\n".encode() for sample in samples()))
    with past.serving(folder) as server:
        yield server.api


def marks(api: query.Prometheus, name: str, view: View) -> list[tuple[float, dict[str, str]]]:
    """Return the places (seconds) and labels of the marks that Grafana draws for an annotation of the Overview."""
    (asked,) = [each for each in query.questions(BOARDS["overview"]) if (each.kind, each.where) == ("annotation", name)]
    drawn = {
        (float(value), tuple(sorted(series["metric"].items())))
        for series in query.ask(api, asked, view)
        for _, value in series["values"]
    }
    return [(at / 1000, dict(labels)) for at, labels in sorted(drawn)]


@pytest.mark.parametrize("hours", [2, 4, 72])
def test_an_event_is_one_mark_whatever_the_range(api: query.Prometheus, hours: int) -> None:
    """Restarts, reloads, changed drivers and loads are each drawn once, at their time or at the step behind it."""
    view = View(END - hours * 3600, END, chosen={"instance": ["a"]})
    (asked,) = (each for each in query.questions(BOARDS["overview"]) if each.where == "Loads")
    step = query.step(asked, view)
    at = {
        name: [round(when - END) for when, _ in marks(api, name, view) if when > BEGIN]
        for name in (*ANNOTATIONS, "Loads")
    }
    assert {name: found for name, found in at.items() if found} == {
        "Exporter restarts": [RESTART - END],
        "Configuration reloads": [RELOAD - END],
        "GPU driver changes": [pytest.approx(CHANGE + 300 + step / 2 - END, abs=step / 2 + 15)],
        "Model server restarts": [pytest.approx(BACK + step / 2 - END, abs=step / 2 + 15)],
        "Loads": [pytest.approx(BACK + step / 2 - END, abs=step / 2 + 15)],
    }


ANNOTATIONS = (
    "Exporter restarts",
    "Configuration reloads",
    "Host restarts",
    "Model server restarts",
    "GPU driver changes",
)


@pytest.mark.parametrize("minutes", [5, 30, 60, 240])
def test_a_kind_has_at_most_twenty_marks(api: query.Prometheus, minutes: int) -> None:
    """Even if 50 hosts restart once a minute."""
    view = View(END - minutes * 60, END)
    assert 0 < len(marks(api, "Exporter restarts", view)) <= 20


@pytest.mark.parametrize("board", WITH_EVENTS.values(), ids=WITH_EVENTS.keys())
def test_marks_are_points(board: dict[str, Any]) -> None:
    """Each annotation yields times; loads, unloads and alerts are off until somebody switches them on."""
    found = {each["name"]: each for each in board["annotations"]["list"]}
    assert found.keys() == {*ANNOTATIONS, *OFF}
    assert all(each["useValueForTime"] is True for each in found.values())
    assert {name for name, each in found.items() if not each["enable"]} == OFF


def test_marks_of_a_month_are_not_searched_for_in_steps_of_seconds() -> None:
    """Prometheus loads every step of a subquery: 172,800 for 30 days, of each engine or GPU."""
    found = [each["expr"] for board in BOARDS.values() for each in board["annotations"]["list"]]
    steps = {step for expr in found for step in re.findall(r"\[\$__range:([^\]]*)\]", expr)}
    assert steps == {"$__interval"}


def test_fleet_has_no_marks() -> None:
    """Of many hosts they would be a fence."""
    assert BOARDS["fleet"]["annotations"]["list"] == []


def test_the_lane_has_what_fires_now_first(api: query.Prometheus) -> None:
    """Of more alerts than there are rows, those that ended are left out, although they were more severe."""
    (asked,) = (each for each in query.questions(BOARDS["overview"]) if each.where == "Alerts A")
    shown = {series["metric"]["alertname"] for series in query.ask(api, asked, View(END - 3600, END))}
    assert len(shown) == 6
    assert {"GpuHot", "Disk"} < shown
    calm = query.ask(api, asked, View(END - 3600, END, chosen={"instance": ["loop1"]}))
    assert [series["metric"]["alertname"] for series in calm] == ["None"]
    unknown = query.ask(api, asked, View(END - 3600, END, chosen={"instance": ["loop2"]}))
    assert unknown == []
