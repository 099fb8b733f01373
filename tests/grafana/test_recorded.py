"""Panels over many hosts query series of the job for All, and series of each host for a selection."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from grafana import recorded as r
from grafana.queries import Query
from tests.support import past
from tools import dashboard_queries as asking
from tools.dashboard_queries import Question, View

if TYPE_CHECKING:
    from collections.abc import Iterator

BEGIN, MINUTES = (time.time() // 60 - 120) * 60, 5
MODEL = 'job="modelhost",server="ollama",model="tiny"'
SERIES = {
    f'model:requests:rate5m{{instance="a:8585",{MODEL}}}': 1.0,
    f'model:requests:rate5m{{instance="b:8585",{MODEL}}}': 2.0,
    f"job_model:requests:rate5m{{{MODEL}}}": 30.0,
    f'model:request_duration_seconds:p95_5m{{instance="a:8585",{MODEL}}}': 4.0,
    f'model:request_duration_seconds:p95_5m{{instance="b:8585",{MODEL}}}': 5.0,
    f'job_model:request_duration_seconds_bucket:rate5m{{{MODEL},le="10"}}': 1.0,
    f'job_model:request_duration_seconds_bucket:rate5m{{{MODEL},le="+Inf"}}': 1.0,
    f'model:request_duration_seconds:mean_5m{{instance="a:8585",{MODEL}}}': 3.0,
    f"job_model:request_duration_seconds_sum:rate5m{{{MODEL}}}": 7.0,
    f'model:requests_failed:rate5m{{instance="a:8585",{MODEL}}}': 0.0,
    f'model:requests_eligible:rate5m{{instance="a:8585",{MODEL}}}': 1.0,
    f"job_model:requests_failed:rate5m{{{MODEL}}}": 15.0,
    f"job_model:requests_eligible:rate5m{{{MODEL}}}": 30.0,
    f'model:slo_missed:ratio_rate1h{{instance="a:8585",{MODEL},slo="ttft"}}': 0.1,
    f'model:slo_budget:ratio{{instance="a:8585",{MODEL},slo="ttft"}}': 0.05,
    f'model:slo_missed:ratio_rate1h{{instance="b:8585",{MODEL},slo="ttft"}}': 0.2,
    f'model:slo_budget:ratio{{instance="b:8585",{MODEL},slo="ttft"}}': 0.2,
    f'job_model:slo_missed:ratio_rate1h{{{MODEL},slo="ttft"}}': 0.15,
    f'job_model:slo_budget:ratio{{{MODEL},slo="ttft"}}': 0.05,
}


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[asking.Prometheus]:
    """Start a real Prometheus with these recorded series in the past."""
    folder = tmp_path_factory.mktemp("prometheus")
    lines = [f"{name} {value} {BEGIN + minute * 60:.0f}" for name, value in SERIES.items() for minute in range(MINUTES)]
    past.blocks(folder, (f"{line}\n".encode() for line in lines))
    with past.serving(folder) as server:
        yield server.api


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ([], [30, 9.5, 7, 0.5, 3, 0.95]),
        (["a:8585"], [1, 4, 3, 0, 2, 0.95]),
        (["a:8585", "b:8585"], [3, 5, 3, 0, 2, 0.95]),
        (["c:8585"], [None] * 6),
    ],
)
def test_all_hosts_or_those_chosen(
    prometheus: asking.Prometheus, hosts: list[str], expected: list[float | None]
) -> None:
    """All queries the job's series; a selection the sum or maximum of its hosts; an unknown host has no data."""
    view = View(BEGIN, BEGIN + 120, chosen={"instance": hosts, "model": ["tiny"]})

    def last(query: Query) -> float | None:
        answer = asking.ask(prometheus, Question("board", "panel", "panel A", query.expr), view)
        assert len(answer) <= 1
        return float(answer[0]["values"][-1][1]) if answer else None

    duration = "request_duration_seconds"
    requests, errors = r.by_model("requests:rate5m"), r.error_ratio_by_model()
    objectives = (Query(r.burn("1h")), Query(r.target()))
    queries = (requests, r.quantile_by_model(duration), r.mean_by_model(duration), errors, *objectives)
    assert [last(query) for query in queries] == pytest.approx(expected)
