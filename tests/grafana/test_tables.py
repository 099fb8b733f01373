"""The first tables of dashboards in a real Prometheus: a row each for what is well, broken, or was never read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from grafana.gpu_table import STATES, THROTTLED
from tests.grafana.boards import BOARDS
from tests.support import past
from tools import dashboard_queries as query
from tools.dashboard_queries import View

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools.dashboard_queries import Prometheus

NOW, MINUTE, MINUTES = past.START, 60, 10
GPU = "modelhost_gpu_"
TARGET = 'instance="h",job="j"'
REASONS = ("applications_clocks", "sw_power_cap", "sw_thermal", "hw_thermal")
PAGE = {
    **{f'{GPU}info{{gpu="{gpu}",name="{name}"}}': 1 for gpu, name in enumerate(("NVIDIA H100", "AMD MI300"))},
    **{f'{GPU}up{{gpu="{gpu}"}}': up for gpu, up in enumerate((1, 1, 0))},
    f'{GPU}recovery_action{{gpu="0"}}': 1,
    f'{GPU}xid_last_timestamp_seconds{{gpu="0",xid="48"}}': NOW - MINUTE,
    f'{GPU}xid_last_timestamp_seconds{{gpu="0",xid="31"}}': NOW - 1000 * MINUTE,
    **{f'{GPU}throttled{{gpu="0",reason="{reason}"}}': number > 0 for number, reason in enumerate(REASONS)},
    **{f'{GPU}throttled{{gpu="1",reason="{reason}"}}': number == 1 for number, reason in enumerate(REASONS)},
    f'{GPU}temperature_celsius{{gpu="0",sensor="gpu"}}': 50,
    f'{GPU}temperature_celsius{{gpu="0",sensor="memory"}}': 90,
    f'{GPU}temperature_limit_celsius{{gpu="0",type="gpu_max"}}': 45,
    f'{GPU}temperature_limit_celsius{{gpu="0",type="memory_max"}}': 95,
    f'{GPU}temperature_limit_celsius{{gpu="0",type="slowdown"}}': 87,
    f'{GPU}temperature_celsius{{gpu="1",sensor="junction"}}': 70,
    f'{GPU}temperature_limit_celsius{{gpu="1",type="junction_critical"}}': 110,
    **{
        f'{GPU}memory_{what}_bytes{{gpu="{gpu}"}}': size for what, size in (("used", 1), ("total", 4)) for gpu in (0, 1)
    },
    f'{GPU}process_memory_bytes{{gpu="0",process="other"}}': 0.25,
    f'{GPU}process_memory_bytes{{gpu="0",process="vllm"}}': 0.75,
    'modelhost_engine_up{server="never"}': 0,
    'modelhost_engine_up{server="vllm"}': 1,
    'modelhost_engine_info{kind="vllm",server="vllm",version="1"}': 1,
    'modelhost_scrape_collector_success{collector="gpu"}': 0,
    'modelhost_scrape_collector_available{collector="gpu"}': 0,
    'modelhost_scrape_collector_success{collector="disk"}': 0,
    'modelhost_scrape_collector_available{collector="disk"}': 1,
    'modelhost_build_info{python="3",version="1"}': 1,
    "modelhost_time_seconds": NOW,
    "up": 1,
}
"""One host's samples: a GPU with faults, one at its power limit, one that does not respond; two servers."""


def lines() -> Iterator[bytes]:
    """Yield the samples of ten minutes, and one of a host that is down."""
    for sample, value in PAGE.items():
        name, _, labels = sample.rstrip("}").partition("{")
        series = f"{name}{{{','.join(filter(None, (TARGET, labels)))}}}"
        for minute in range(MINUTES + 1):
            yield f"{series} {float(value)} {NOW - (MINUTES - minute) * MINUTE:.0f}\n".encode()
    for name in ('modelhost_build_info{instance="gone",', 'modelhost_time_seconds{instance="gone",'):
        yield f'{name}job="j"}} 1 {NOW - 60 * MINUTE:.0f}\n'.encode()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Start a Prometheus that has them as its past."""
    folder = tmp_path_factory.mktemp("tables")
    past.blocks(folder, lines())
    with past.serving(folder) as server:
        yield server.api


def column(api: Prometheus, board: str, heading: str) -> dict[tuple[str, ...], float]:
    """Return a column of a dashboard's first table, by the labels of its rows in alphabetical order."""
    panel = next(each for each in query.panels(BOARDS[board]) if each["type"] == "table")
    ref = {name: value for value, name in panel["transformations"][1]["options"]["renameByName"].items()}[heading]
    (question,) = (each for each in query.panel_questions(board, panel) if each.where == f"{panel['title']} {ref[-1]}")
    view = View(NOW - MINUTES * MINUTE, NOW, scrape_interval=MINUTE)
    hidden = ("instance", "job", "chosen_cluster")
    return {
        tuple(value for name, value in sorted(series["metric"].items()) if name not in hidden): float(
            series["value"][1]
        )
        for series in query.ask(api, question, view)
    }


def test_each_gpu_has_a_state(api: Prometheus) -> None:
    """The action that the driver requests, or down; faults have lower numbers than ok."""
    states = {key: STATES[int(value)][0] for key, value in column(api, "gpu", "State").items()}
    assert states == {("0", "H100"): "reset the GPU", ("1", "AMD MI300"): "ok", ("2",): "down"}
    assert max(STATES) == 0


def test_the_worst_reason_for_throttling_is_shown(api: Prometheus) -> None:
    """Of several reasons, and a power limit is none of a fault."""
    reasons = {gpu: THROTTLED[int(value)][0] for (gpu,), value in column(api, "gpu", "Throttled").items()}
    assert reasons == {"0": "hardware", "1": "power limit"}


def test_the_margin_is_that_of_the_sensor_nearest_to_its_limit(api: Prometheus) -> None:
    """Of NVIDIA's two limits, or of each sensor's critical temperature."""
    assert column(api, "gpu", "Margin") == {("0",): 5, ("1",): 40}


def test_errors_are_those_of_the_time_range(api: Prometheus) -> None:
    """An XID counts by when it was last reported."""
    assert column(api, "gpu", "Errors") == {("0",): 1, ("1",): 0, ("2",): 0}


def test_the_process_with_most_memory_is_named(api: Prometheus) -> None:
    """A GPU without a process keeps its value."""
    assert column(api, "gpu", "Memory") == {("0", "vllm"): 0.25, ("1",): 0.25}


def test_a_server_that_was_never_up_is_a_row(api: Prometheus) -> None:
    """It has neither kind nor version."""
    assert column(api, "model-servers", "State") == {("never",): 0, ("vllm", "vllm", "1"): 1}


def test_a_host_that_is_gone_is_a_row(api: Prometheus) -> None:
    """On Host and Exporter, without a version; a collector without anything to measure does not fail."""
    assert sorted(column(api, "exporter", "State").items()) == [((), 0), (("3", "1"), 1)]
    assert column(api, "exporter", "Failing") == {(): 1}
