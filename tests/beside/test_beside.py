"""The recipes of docs/beside.md, with the real programs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from modelhost_exporter import collectors
from tests.grafana.boards import BOARDS
from tests.prometheus.rules import FOLDER, RECORDED, read, recorded_names, unquoted
from tests.support.past import START
from tests.support.programs import DEADLINE_SECONDS, Exporter, Program, fetch, free_port, installed, running, wait_until
from tests.support.prometheus_server import running_prometheus
from tools import dashboard_queries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import StartExporter

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/beside.md").read_text()
BLOCKS = re.findall(r"```sh\n(.+?)```", PAGE, re.DOTALL)
COLLECTOR = ROOT / "deploy/opentelemetry/collector.yaml"
ALLOY = ROOT / "deploy/alloy/config.alloy"
PLAYBOOK = ROOT / "deploy/ansible/playbook.yml"
BOTH = (
    "cpu",
    "memory",
    "filesystem",
    "disk",
    "network",
    "netstat",
    "load",
    "pressure",
    "filefd",
    "time",
    "uname",
    "sockstat",
)
"""Words of node_exporter's families that measure what this exporter measures too."""


def flags(program: str) -> list[str]:
    """Return the flags of a program in its recipe."""
    (block,) = [block for block in BLOCKS if block.startswith(program)]
    return re.findall(r"--\S+", block)


def test_node_exporter_adds_what_is_missing() -> None:
    """A real one accepts the flags, and measures nothing of what this exporter does."""
    port = free_port()
    command = [installed("prometheus-node-exporter", "node_exporter"), f"--web.listen-address=127.0.0.1:{port}"]
    program = Program([*command, *flags("node_exporter")])
    with running(program):
        wait_until(lambda: "Listening on" in program.output() or program.process.poll() is not None, "node_exporter")
        page = fetch(f"http://127.0.0.1:{port}/metrics").decode()
    families = set(re.findall(r"^(node_\w+)", page, re.MULTILINE))
    assert "node_scrape_collector_success" in families
    assert {name for name in families if re.match(rf"node_({'|'.join(BOTH)})_", name)} == set()


def test_the_exporter_measures_models_and_gpus(start_exporter: StartExporter) -> None:
    """It accepts the flags, and has no family of the host but its time."""
    exporter = start_exporter("--demo", *flags("modelhost-exporter"))
    wanted = {"modelhost_requests_total", "modelhost_gpu_utilization_ratio", "modelhost_engine_up"}
    wait_until(lambda: wanted <= _names(exporter), "models and GPUs are measured")
    found = _names(exporter)
    owners = {family: name for name in collectors.names() for family in _samples_of(name)}
    assert {owners[name] for name in found & owners.keys()} <= _REST


def _names(exporter: Exporter) -> set[str]:
    return set(re.findall(r"^(modelhost_\w+)", exporter.page().decode(), re.MULTILINE))


_REST = {"clock", "engines", "gpu", "processes", "systemd", "textfile"}
"""Collectors that the recipe leaves on."""


def test_the_recipe_names_every_collector_of_the_host() -> None:
    """A new collector is either of the host and named, or stays on."""
    named = {flag.removeprefix("--no-collector.") for flag in flags("modelhost-exporter")}
    assert named == set(collectors.names()) - _REST


def _samples_of(collector: str) -> Iterator[str]:
    for family in collectors.module(collector).FAMILIES:
        yield from (family.name + suffix for suffix in ("", "_bucket", "_sum", "_count"))


def _reads(expression: str, above: frozenset[str] = frozenset()) -> set[str]:
    """Return the exporter's metrics that an expression reads, those of recorded series too."""
    names = set(re.findall(r"\bmodelhost_\w+", unquoted(expression)))
    for name in recorded_names(expression) & RECORDED.keys() - above:
        names |= _reads(RECORDED[name], above | {name})
    return names


def _complete(board: dict[str, Any], off: set[str]) -> str:
    """Return how many panels have a query that reads nothing of these collectors, of how many."""
    missing = {sample for name in off for sample in _samples_of(name)}
    panels = [[*dashboard_queries.panel_questions("", panel)] for panel in dashboard_queries.panels(board)]
    queried = [[_reads(question.expr) for question in questions] for questions in panels if questions]
    complete = [any(not names & missing for names in queries) for queries in queried]
    return f"{sum(complete)} of {len(complete)}"


def test_the_page_has_the_panels_that_remain() -> None:
    """The table is what the dashboards, rules and collectors say."""
    host = set(collectors.names()) - _REST
    rows = [
        f"| {board['title'].removeprefix('Model host / ')} | {_complete(board, host)} | {_complete(board, {'gpu'})} |\n"
        for board in BOARDS.values()
    ]
    assert "".join(rows) in PAGE


def test_scrapes_are_those_of_prometheus() -> None:
    """The Collector and Alloy have the job, the interval and the target of prometheus.yml."""
    job = read(FOLDER / "prometheus.yml")["scrape_configs"][0]
    (target,) = job["static_configs"][0]["targets"]
    (ours,) = yaml.safe_load(COLLECTOR.read_text())["receivers"]["prometheus"]["config"]["scrape_configs"]
    assert (ours["job_name"], ours["static_configs"][0]["targets"]) == (job["job_name"], [target])
    text = ALLOY.read_text()
    for name, value in (("job_name", job["job_name"]), ("__address__", target), ("scrape_interval", "15s")):
        assert re.search(rf'{name}\s*= "{value}"', text)


def test_every_component_of_the_collector_exists() -> None:
    """What pipelines name is configured."""
    settings = yaml.safe_load(COLLECTOR.read_text())
    for pipeline in settings["service"]["pipelines"].values():
        for kind, names in pipeline.items():
            assert set(names) <= settings[kind].keys()


def _one_of(*names: str) -> str:
    found = next((path for name in names if (path := shutil.which(name))), None)
    return found or pytest.skip(f"{names[0]} is not installed")


def test_a_real_collector_sends_every_series_on(start_exporter: StartExporter, tmp_path: Path) -> None:
    """From the demo to a real Prometheus by remote write: names, job, instance and values."""
    binary = _one_of("otelcol-contrib", "otelcol")
    exporter = start_exporter("--demo")
    accepting = ["--web.enable-remote-write-receiver"]
    with running_prometheus("127.0.0.1:9", tmp_path, flags=accepting) as server:
        settings = tmp_path / "collector.yaml"
        replaced = {"127.0.0.1:8585": exporter.address, "http://127.0.0.1:9090": server.url, "15s": "1s"}
        text = COLLECTOR.read_text()
        for shipped, given in replaced.items():
            text = text.replace(shipped, given)
        settings.write_text(text)
        with running(Program([binary, f"--config={settings}"], {"HOSTNAME": "gpu-1"})):
            selector = '{job="modelhost",instance="gpu-1"}'
            server.wait_for(f"modelhost_requests_total{selector}")
            names = {series["metric"]["__name__"] for series in server.query(selector)}
    page = exporter.page().decode()
    assert set(re.findall(r"^(modelhost_(?:host|requests|gpu)_\w+)[{ ]", page, re.MULTILINE)) <= names


def test_alloy_accepts_its_configuration() -> None:
    """It is formatted as Alloy formats, which parses it."""
    result = subprocess.run([_one_of("alloy"), "fmt", "--test", str(ALLOY)], check=False, timeout=DEADLINE_SECONDS)
    assert result.returncode == 0


def test_ansible_lint_accepts_the_playbook() -> None:
    """With the profile for production, offline."""
    command = [_one_of("ansible-lint"), "--offline", "--profile=production", PLAYBOOK.name]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=PLAYBOOK.parent)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_playbook_installs_where_the_unit_starts() -> None:
    """The unit's program and configuration are in the folders of the playbook."""
    (play,) = yaml.safe_load(PLAYBOOK.read_text())
    unit = (ROOT / "deploy/systemd/modelhost-exporter.service").read_text()
    (started,) = re.findall(r"^ExecStart=(.+)$", unit, re.MULTILINE)
    variables = play["vars"]
    assert started == (
        f"{variables['modelhost_folder']}/bin/modelhost-exporter"
        f" --config.file={variables['modelhost_settings']}/config.yaml"
    )
    assert f"User={variables['modelhost_user']}\n" in unit


def test_a_file_of_the_recipe_is_read(start_exporter: StartExporter, tmp_path: Path) -> None:
    """The two commands write a metric that is on the page."""
    (recipe,) = [block for block in BLOCKS if block.startswith("echo")]
    script = recipe.replace("/var/lib/textfile", str(tmp_path))
    subprocess.run(["sh", "-eu", "-c", script], check=True, timeout=DEADLINE_SECONDS)
    exporter = start_exporter(f"--collector.textfile.directory={tmp_path}")
    (value,) = re.findall(rb"^nightly_backup_success_timestamp_seconds (\S+)", exporter.page(), re.MULTILINE)
    assert float(value) > START - 10 * 365 * 86400


def test_counters_for_dcgm_are_well_formed() -> None:
    """Three columns: the field, the type and the help."""
    lines = (ROOT / "deploy/dcgm/counters.csv").read_text().splitlines()
    for line in (line for line in lines if not line.startswith("#")):
        assert re.fullmatch(r"DCGM_(FI|EXP)_[A-Z0-9_]+, (gauge|counter), [^,]+\.", line)
