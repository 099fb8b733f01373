"""The recorded series of one host: the real rules, evaluated by a real Prometheus over the demo's simulated time."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.dashboards.serving import address, prometheus
from benchmarks.measuring import ROOT
from modelhost_exporter.demo.incidents import USUAL
from tools import demo_history
from tools.dashboard_queries import Prometheus

RULES = ROOT / "prometheus/rules/recording.yml"
_SECONDS, _INTERVAL, _EVALUATION = 1800, 15, 60
_DEPTH = 3  # recorded series are made of recorded series
_ALSO = "up|modelhost_build_info"
"""Scraped series that distinguish hosts: panels over many hosts join with them."""


class Series(NamedTuple):
    """A series of a host, and one of its values."""

    name: str
    labels: dict[str, str]
    value: float


def recorded(models: int, end: float) -> list[Series]:
    """Return the series that the recording rules record for a host with a number of models, up to a time (seconds)."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        data = Path(folder) / "data"
        start = end - _SECONDS
        _scrape(Path(folder) / "scraped.om", data, models, start)
        for _ in range(_DEPTH):
            _evaluate(data, start, end)
        server = stack.enter_context(prometheus(data, "--storage.tsdb.retention.time=100y"))
        wanted = f'last_over_time({{__name__=~".+:.+|{_ALSO}"}}[{_SECONDS}s])'
        return [_series(found) for found in Prometheus(address(server)).vector(wanted, end)]


def _scrape(scraped: Path, data: Path, models: int, start: float) -> None:
    with scraped.open("wb") as file:
        file.writelines(demo_history.scrapes(1, start, _SECONDS, _INTERVAL, models=models, schedule=USUAL))
        file.write(demo_history.END)
    command = ("promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet", str(scraped), str(data))
    subprocess.run(command, check=True)


def _evaluate(data: Path, start: float, end: float) -> None:
    with prometheus(data, "--storage.tsdb.retention.time=100y") as server:
        command = (
            *("promtool", "tsdb", "create-blocks-from", "rules", f"--start={start:.0f}", f"--end={end:.0f}"),
            *(f"--eval-interval={_EVALUATION}s", f"--url={address(server)}", f"--output-dir={data}", str(RULES)),
        )
        subprocess.run(command, check=True, capture_output=True)


def _series(found: dict[str, Any]) -> Series:
    labels = dict(found["metric"])
    return Series(labels.pop("__name__"), labels, float(found["value"][1]))
