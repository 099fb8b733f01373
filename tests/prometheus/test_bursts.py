"""A burst of requests between two scrapes is counted once by the burn windows, whenever it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.prometheus.rule_testers import TESTERS, failures
from tests.prometheus.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REQUESTS, FAILED = 60, 30
QUIET_SECONDS = 20 * 60
WINDOWS = {
    "model:slo_requests:increase5m": REQUESTS,
    "model:slo_good:increase5m": REQUESTS - FAILED,
    "model:requests_eligible:increase5m": REQUESTS,
    "model:requests_failed:increase5m": FAILED,
}
RATIOS = ("slo_missed", "request_errors")
HOST = 'job="modelhost", instance="a:8585"'


def _bursts(interval: int, before: int | None) -> Iterator[tuple[str, str]]:
    """Yield series and values for a burst at each scrape of five minutes, after ``before`` requests or as the first."""
    first, scrapes = QUIET_SECONDS // interval, -(-300 // interval)
    for position in range(scrapes):
        model = f'{HOST}, server="chat", model="{position:02}", operation="chat"'
        counters = {
            f'modelhost_slo_requests_total{{{model}, slo="ttft"}}': REQUESTS,
            f'modelhost_slo_good_requests_total{{{model}, slo="ttft"}}': REQUESTS - FAILED,
            f'modelhost_requests_total{{{model}, stream="true", outcome="ok", code="200"}}': REQUESTS - FAILED,
            f'modelhost_request_errors_total{{{model}, outcome="timeout"}}': FAILED,
        }
        for series, count in counters.items():
            quiet = "_" if before is None else str(before)
            yield series, f"{quiet}x{first + position} {(before or 0) + count}x{3600 // interval}"


def _cases(at: str, models: int) -> Iterator[dict[str, Any]]:
    """Yield what every model must have recorded when its burst is within every window of an hour or more."""
    everywhere = [{"labels": "{}", "value": models}]
    for name, count in WINDOWS.items():
        for sum_ in (
            f"sum_over_time({name}[1h:5m])",
            f"sum_over_time({name}[6h:5m])",
            f"sum_over_time({name}[1h]) / 5",
        ):
            inside = f"({sum_} >= {count * 0.85}) <= {count * 1.15}"
            yield {"expr": f"count({inside})", "eval_time": at, "exp_samples": everywhere}
    for share in RATIOS:
        for window in ("1h", "6h", "3d"):
            right = f"round(model:{share}:ratio_rate{window}, 0.001) == {FAILED / REQUESTS}"
            yield {"expr": f"count({right})", "eval_time": at, "exp_samples": everywhere}


@pytest.mark.parametrize("before", [None, 7], ids=["first", "later"])
@pytest.mark.parametrize("interval", [15, 16, 31, 60, 61, 150])
@pytest.mark.parametrize("tester", TESTERS)
def test_a_burst_is_counted_once_wherever_it_falls(
    tester: str, interval: int, before: int | None, tmp_path: Path
) -> None:
    """60 requests, half of which fail, are 60 within 15 % in every window, and the share of failures is a half."""
    series = dict(_bursts(interval, before))
    series[f'modelhost_build_info{{{HOST}, version="1", python="3.12"}}'] = f"1x{5400 // interval}"
    test = {
        "name": "bursts",
        "interval": f"{interval}s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [case for at in ("40m", "43m", "57m") for case in _cases(at, len(series) // 4)],
    }
    file = {
        "rule_files": [str(path) for path in RULES if path.stem == "recording"],
        "evaluation_interval": "1m",
        "group_eval_order": ["modelhost_burn_parts", "modelhost_burn_short", "modelhost_burn_long"],
        "tests": [test],
    }
    path = tmp_path / "bursts.yml"
    path.write_text(yaml.safe_dump(file, width=1_000_000))
    said = failures(tester, path, tmp_path)
    assert not said, said
