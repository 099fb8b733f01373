"""90 minutes of incidents on one simulated host, evaluated with the real rules by a real Prometheus."""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
from typing import TYPE_CHECKING, Any

from modelhost_exporter.config.duration import parse_seconds
from tests.prometheus.rules import ALERTS, FOLDER
from tests.support.programs import Program, fetch, free_port, installed, running, wait_until
from tools import dashboard_queries as query
from tools import demo_history

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

START, SECONDS, INTERVAL = 1_800_014_400.0, 5400, 15  # from noon on, in January 2027, UTC
_DEPTH = 3  # recorded series are made of recorded series


class Past:
    """A Prometheus that serves recorded history and scrapes nothing."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.api = query.Prometheus(self.url)

    def ready(self) -> bool:
        """Return whether it accepts queries."""
        try:
            return bool(fetch(f"{self.url}/-/ready"))
        except OSError:
            return False

    def longest(self, promql: str) -> float:
        """Return the longest time in seconds for which a query returned the same series; -1 without any."""
        return max((seconds for series in self._course(promql) for _, seconds in held(series["values"])), default=-1.0)

    def firing(self, rule: dict[str, Any]) -> Iterator[str]:
        """Yield the ALERTS samples of an alert while it fires, in OpenMetrics format."""
        named = {"alertname": rule["alert"], "alertstate": "firing"}
        for series in self._course(rule["expr"]):
            labels = {**series["metric"], **rule["labels"], **named}
            labels.pop("__name__", None)
            written = ",".join(f"{name}={json.dumps(value)}" for name, value in labels.items())
            for at, seconds in held(series["values"]):
                if seconds >= waits(rule):
                    yield f"ALERTS{{{written}}} 1 {at}\n"

    def _course(self, promql: str) -> list[dict[str, Any]]:
        return self.api.matrix(promql, START, START + SECONDS, INTERVAL)


def waits(rule: dict[str, Any]) -> float:
    """Return for how many seconds an alert's condition must hold."""
    return parse_seconds(rule["for"]) if "for" in rule else 0.0


def held(values: Iterable[tuple[float, str]]) -> Iterator[tuple[float, float]]:
    """Yield each time of a series, and for how many seconds the series has had no gap by then."""
    before, began = -math.inf, 0.0
    for at, _ in values:
        began = began if at - before <= INTERVAL else at
        before = at
        yield at, at - began


def record(folder: Path, scrapes: Iterable[bytes]) -> None:
    """Write the scrapes of that time, and the results of recording rules and alerts, for `serving`."""
    blocks(folder, scrapes)
    times = (f"--start={START:.0f}", f"--end={START + SECONDS:.0f}", f"--eval-interval={INTERVAL}s")
    for _ in range(_DEPTH):
        with serving(folder) as server:
            kind = ("rules", *times, f"--url={server.url}", f"--output-dir={folder / 'data'}")
            _create(*kind, FOLDER / "rules/recording.yml")
    with serving(folder) as server:
        fired = [sample.encode() for rule in ALERTS for sample in server.firing(rule)]
    blocks(folder, fired)


@contextlib.contextmanager
def recorded(folder: Path, scrapes: Iterable[bytes]) -> Iterator[Past]:
    """Start a Prometheus on the scrapes of that time and the results of the rules."""
    record(folder, scrapes)
    with serving(folder) as server:
        yield server


def blocks(folder: Path, scrapes: Iterable[bytes]) -> None:
    """Write samples with times, in OpenMetrics format, for `serving`."""
    scraped = folder / "scraped.om"
    with scraped.open("wb") as file:
        file.writelines(scrapes)
        file.write(demo_history.END)
    _create("openmetrics", "--quiet", scraped, folder / "data")


def _create(*arguments: str | Path) -> None:
    subprocess.run([installed("promtool"), "tsdb", "create-blocks-from", *arguments], check=True, capture_output=True)


@contextlib.contextmanager
def serving(folder: Path, *flags: str) -> Iterator[Past]:
    """Start a Prometheus on the blocks of a folder, with further flags of its command line."""
    settings = folder / "prometheus.yml"
    settings.write_text("{}")
    port = free_port()
    command = [
        *(installed("prometheus"), f"--config.file={settings}", f"--storage.tsdb.path={folder / 'data'}"),
        *("--storage.tsdb.retention.time=100y", f"--web.listen-address=127.0.0.1:{port}"),
        *flags,
    ]
    with running(Program(command)):
        past = Past(port)
        wait_until(past.ready, "Prometheus")
        yield past
