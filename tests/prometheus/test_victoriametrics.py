"""VictoriaMetrics scrapes in place of Prometheus, with settings of its own."""

from __future__ import annotations

import json
import re
import shutil
import urllib.parse
from typing import TYPE_CHECKING, Any

from tests.prometheus.rules import FOLDER, read
from tests.support.programs import Program, built, fetch, free_port, running, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartExporter

SETTINGS = FOLDER / "victoriametrics.yml"


def test_targets_are_those_of_prometheus() -> None:
    """The scrapes of prometheus.yml, less what VictoriaMetrics refuses, and itself in place of Prometheus."""
    theirs, ours = read(FOLDER / "prometheus.yml"), read(SETTINGS)
    for discovery in theirs["scrape_configs"][0]["file_sd_configs"]:
        del discovery["refresh_interval"]
    assert ours["scrape_configs"][0] == theirs["scrape_configs"][0]
    assert ours["global"] == {"scrape_interval": theirs["global"]["scrape_interval"]}
    assert SETTINGS.read_text().count("# labels: {instance: HOSTNAME}") == 1


def test_it_stores_every_series_of_the_exporter(start_exporter: StartExporter, tmp_path: Path) -> None:
    """A real one accepts the settings strictly, finds the hosts of a file, and has the series of a page."""
    exporter, port = start_exporter("--demo"), free_port()
    program = Program(
        [
            built("victoria-metrics"),
            f"-promscrape.config={_settings(tmp_path, exporter.address, port)}",
            f"-storageDataPath={tmp_path / 'data'}",
            f"-httpListenAddr=127.0.0.1:{port}",
            "-search.latencyOffset=0s",
        ]
    )
    with running(program):
        wait_until(lambda: _value(port, f'up{{job="modelhost",instance="{exporter.address}"}}') == 1, "a scrape")
        wait_until(
            lambda: _value(port, 'count(up{instance=~"gpu-.\\\\.example\\\\.com:8585"})') == 2, "the hosts of a file"
        )
        wait_until(lambda: _value(port, 'up{job="victoriametrics"}') == 1, "VictoriaMetrics scrapes itself")
        page = exporter.page().decode()
        wait_until(lambda: _names(port) >= _families(page), "everything is stored")


def _settings(folder: Path, exporter: str, port: int) -> Path:
    copy = shutil.copytree(FOLDER, folder / "shipped")
    shutil.copy(copy / "hosts.example.yml", copy / "hosts" / "mine.yml")
    settings = copy / SETTINGS.name
    text = settings.read_text()
    replaced = {
        "127.0.0.1:8585": exporter,
        "127.0.0.1:8428": f"127.0.0.1:{port}",
        "scrape_interval: 15s": "scrape_interval: 1s",
    }
    for shipped, given in replaced.items():
        assert text.count(shipped) == 1
        text = text.replace(shipped, given)
    settings.write_text(text)
    return settings


def _get(port: int, path: str, **parameters: str) -> Any:
    try:
        return json.loads(fetch(f"http://127.0.0.1:{port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"))["data"]
    except OSError:
        return {"result": []}


def _value(port: int, query: str) -> float | None:
    result = _get(port, "query", query=query)["result"]
    return float(result[0]["value"][1]) if len(result) == 1 else None


def _names(port: int) -> set[str]:
    return set(_get(port, "label/__name__/values"))


def _families(page: str) -> set[str]:
    return set(re.findall(r"^(modelhost_\w+)[{ ]", page, re.MULTILINE))
