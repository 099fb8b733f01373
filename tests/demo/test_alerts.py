"""An hour of incidents makes the real alerts fire: recorded and judged by a real Prometheus over simulated history."""

from __future__ import annotations

import contextlib
import json
import subprocess
import urllib.parse
from typing import TYPE_CHECKING, Any

import pytest

from exporter.demo import history
from exporter.demo.catalogue import USUAL_MODELS
from exporter.demo.incidents import HOURLY
from exporter.units import parse_seconds
from tests.demo.conftest import START
from tests.programs import Program, fetch, free_port, installed, running, wait_until
from tests.prometheus.rules import ALERTS, FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECONDS, INTERVAL = 5400, 15
_DEPTH = 3  # recorded series are made of recorded series
# alert, severity (and window) → why an hour's incidents cannot make it fire
_CANNOT = {
    "ExporterDown critical": "the demo answers",
    "ExporterScrapeSlow warning": "the demo is fast",
    "GpuDriverReplaced warning": "it would last until a restart",
    "GpuIdleWithModel info": "waits for six hours",
    "HostFilesystemFilling critical": "waits for an hour",
    "HostFilesystemFilling warning": "waits for an hour",
    "HostFilesystemOutOfFiles critical": "waits for an hour",
    "HostFilesystemOutOfFiles warning": "waits for an hour",
    "HostReceiveErrors warning": "waits for an hour",
    "HostTransmitErrors warning": "waits for an hour",
    "ModelErrorBudgetBurn critical 6h": "looks at six hours",
    "ModelErrorBudgetBurn warning 3d": "looks at three days",
    "ModelSloBurn critical 6h": "looks at six hours",
    "ModelSloBurn warning 3d": "looks at three days",
}


class Past:
    """A Prometheus that has nothing but the past."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def ready(self) -> bool:
        """Tell whether it can be asked."""
        try:
            return bool(fetch(f"{self.url}/-/ready"))
        except OSError:
            return False

    def longest(self, promql: str) -> float:
        """Return for how many seconds on end a query had the same series; -1 when it never had one."""
        asked = {"query": promql, "start": START, "end": START + SECONDS, "step": INTERVAL}
        answer: Any = json.loads(fetch(f"{self.url}/api/v1/query_range?{urllib.parse.urlencode(asked)}"))
        longest = -1.0
        for series in answer["data"]["result"]:
            before, began = float("-inf"), 0.0
            for at, _ in series["values"]:
                began = began if at - before <= INTERVAL else at
                before, longest = at, max(longest, at - began)
        return longest


def name_of(rule: dict[str, Any]) -> str:
    """Return what tells an alert from its variants."""
    labels = rule["labels"]
    return " ".join(filter(None, (rule["alert"], labels["severity"], labels.get("window"))))


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Past]:
    """Start a Prometheus on the blocks of a folder."""
    settings = folder / "prometheus.yml"
    settings.write_text("{}")
    port = free_port()
    command = [
        *(installed("prometheus"), f"--config.file={settings}", f"--storage.tsdb.path={folder / 'data'}"),
        *("--storage.tsdb.retention.time=100y", f"--web.listen-address=127.0.0.1:{port}"),
    ]
    with running(Program(command)):
        past = Past(port)
        wait_until(past.ready, "Prometheus")
        yield past


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Past]:
    """Give a Prometheus with an hour and a half of incidents, recorded by the recording rules."""
    folder, promtool = tmp_path_factory.mktemp("past"), installed("promtool")
    scraped = folder / "scraped.om"
    with scraped.open("wb") as file:
        file.writelines(history.scrapes(1, START, SECONDS, INTERVAL, models=USUAL_MODELS, schedule=HOURLY))
        file.write(history.END)
    create, data = (promtool, "tsdb", "create-blocks-from"), folder / "data"
    subprocess.run([*create, "openmetrics", "--quiet", scraped, data], check=True)
    times = (f"--start={START:.0f}", f"--end={START + SECONDS:.0f}", f"--eval-interval={INTERVAL}s")
    for _ in range(_DEPTH):
        with serving(folder) as server:
            rules = [*create, "rules", *times, f"--url={server.url}", f"--output-dir={data}"]
            subprocess.run([*rules, FOLDER / "rules/recording.yml"], check=True, capture_output=True)
    with serving(folder) as server:
        yield server


@pytest.mark.parametrize("rule", ALERTS, ids=name_of)
def test_an_incident_fires_the_alert(rule: dict[str, Any], past: Past) -> None:
    """Its condition holds for as long as the alert waits; those that cannot are not there, or not for long enough."""
    waits = parse_seconds(rule["for"]) if "for" in rule else 0.0
    assert (past.longest(rule["expr"]) >= waits) == (name_of(rule) not in _CANNOT)


def test_the_exceptions_are_alerts() -> None:
    """No alert that is gone is excused."""
    assert _CANNOT.keys() <= {name_of(rule) for rule in ALERTS}
