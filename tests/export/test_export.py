"""``modelhost-exporter export``, run as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.programs import DEADLINE_SECONDS

ROOT = Path(__file__).parent.parent.parent
URLS = ("--runbook-base-url=https://docs.example.com/runbook", "--grafana-url=https://grafana.example.com/team/")


def export(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return subprocess.run(
        [sys.executable, "-m", "modelhost_exporter", "export", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


def written(*arguments: str, folder: Path) -> dict[str, str]:
    """Return the files that an export writes to a new folder, by their paths."""
    result = export(*arguments[:1], folder / "new", *arguments[1:])
    assert result.returncode == 0, result.stderr
    paths = [path for path in (folder / "new").rglob("*") if path.is_file()]
    assert all(str(path) in result.stdout for path in paths)
    return {str(path.relative_to(folder / "new")): path.read_text() for path in paths}


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("dashboards", {file.name for file in (ROOT / "grafana/dashboards").iterdir()}),
        ("rules", {"alerts.yml", "recording.yml", "runbook.md"}),
        ("config", {"config.yaml"}),
        (
            "prometheus",
            {"prometheus.yml", "hosts.example.yml", "rules/alerts.yml", "rules/recording.yml", "rules/runbook.md"},
        ),
        ("alertmanager", {"alertmanager.yml"}),
        ("systemd", {f"modelhost-exporter.{kind}" for kind in ("service", "socket", "sysusers")}),
    ],
)
def test_each_kind_has_its_files(kind: str, names: set[str], tmp_path: Path) -> None:
    """Without options they are the shipped files, unchanged."""
    files = written(kind, folder=tmp_path)
    assert files.keys() == names
    shipped = [path for folder in ("grafana", "prometheus", "deploy") for path in (ROOT / folder).rglob("*")]
    texts = {path.read_text() for path in (ROOT / "config.example.yaml", *shipped) if path.suffix in SUFFIXES}
    assert set(files.values()) <= texts


SUFFIXES = {".json", ".yml", ".yaml", ".md", ".service", ".socket", ".sysusers"}


def test_links_of_alerts_are_absolute(tmp_path: Path) -> None:
    """Every alert has a link to its heading in the runbook, and every dashboard is below Grafana's URL."""
    text = written("rules", *URLS, folder=tmp_path)["alerts.yml"]
    alerts = [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
    before = yaml.safe_load((ROOT / "prometheus/rules/alerts.yml").read_text())
    for alert, shipped in zip(alerts, [r for g in before["groups"] for r in g["rules"]], strict=True):
        links, relative = alert["annotations"], shipped["annotations"]
        anchor = relative.pop("runbook_url").removeprefix("prometheus/runbook.md")
        assert links.pop("runbook_url") == f"https://docs.example.com/runbook{anchor}"
        if "dashboard" in relative:
            assert links.pop("dashboard") == f"https://grafana.example.com/team{relative.pop('dashboard')}"
        assert alert == shipped


def test_a_report_names_the_options_for_relative_links(tmp_path: Path) -> None:
    """Alertmanager cannot follow a relative link: the report says how to make it absolute."""
    assert "--runbook-base-url and --grafana-url make them absolute" in export("rules", tmp_path / "a").stdout
    assert "relative: --grafana-url make" in export("rules", tmp_path / "b", URLS[0]).stdout
    assert "relative" not in export("rules", tmp_path / "c", *URLS).stdout
    assert "relative" not in export("config", tmp_path / "d").stdout


def test_a_job_of_another_name_is_covered(tmp_path: Path) -> None:
    """Rules, dashboards and scrapes use the job's name, escaped where it is a pattern."""
    pattern = 'job=~".*modelhost.*|gpu[.]hosts"'
    files = written("all", "--job=gpu.hosts", folder=tmp_path)
    assert pattern in files["rules/alerts.yml"]
    boards = {name: json.loads(text) for name, text in files.items() if name.startswith("dashboards/")}
    assert len(boards) == len(list((ROOT / "grafana/dashboards").iterdir()))
    for name, board in boards.items():
        (variable,) = (variable for variable in board["templating"]["list"] if variable["name"] == "job")
        assert variable["current"] == {"text": ["gpu.hosts"], "value": ["gpu.hosts"]}
        assert '".*modelhost.*"' not in files[name].replace("\\", "")
    assert pattern in files["dashboards/fleet.json"].replace("\\", "")
    jobs = [job["job_name"] for job in yaml.safe_load(files["prometheus/prometheus.yml"])["scrape_configs"]]
    assert jobs == ["gpu.hosts", "prometheus"]


def test_a_job_with_modelhost_in_its_name_needs_no_other_pattern(tmp_path: Path) -> None:
    """The shipped pattern covers it."""
    files = written("rules", "--job=modelhost-lab", folder=tmp_path)
    assert files["alerts.yml"] == (ROOT / "prometheus/rules/alerts.yml").read_text()


def test_the_configuration_links_to_grafana(tmp_path: Path) -> None:
    """The live page of an exporter with this configuration links to the dashboards."""
    text = written("config", *URLS, folder=tmp_path)["config.yaml"]
    assert yaml.safe_load(text)["web"]["grafana_url"] == "https://grafana.example.com/team"


def test_nothing_is_overwritten_without_force(tmp_path: Path) -> None:
    """A file with another content stops the export before anything is written; --force replaces it."""
    (tmp_path / "alerts.yml").write_text("groups: [] # mine\n")
    result = export("rules", tmp_path)
    assert result.returncode == 1
    problem = "exists with another content; --force overwrites it"
    assert result.stderr == f"modelhost-exporter: {tmp_path}/alerts.yml: {problem}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["alerts.yml"]
    result = export("rules", tmp_path, "--force")
    assert result.returncode == 0
    assert (tmp_path / "alerts.yml").read_text() == (ROOT / "prometheus/rules/alerts.yml").read_text()


def test_a_second_export_changes_nothing(tmp_path: Path) -> None:
    """The same files may be exported again, such as by a script that runs at each upgrade."""
    export("rules", tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    result = export("rules", tmp_path)
    assert (result.returncode, result.stdout.splitlines()[0]) == (0, "0 files written, 3 unchanged")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["nothing", "DIR"], "argument WHAT: invalid choice: 'nothing'"),
        (["rules"], "the following arguments are required: DIR"),
        (["rules", "DIR", "--job=a b"], "argument --job: 'a b' is not a job's name of letters, digits and _ . : / -"),
        (["rules", "DIR", "--job="], "argument --job: '' is not a job's name"),
        (["rules", "DIR", "--grafana-url=grafana"], "argument --grafana-url: 'grafana' is not a URL such as"),
        (["rules", "DIR", "--grafana-url=https://u:secret@host"], "must have no query, fragment, user or password"),
        (["rules", "DIR", "--runbook-base-url=https://host/{{x}}"], "has characters that URLs write as %XX"),
        (["rules", "DIR", '--runbook-base-url=https://host/"'], "has characters that URLs write as %XX"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], problem: str, tmp_path: Path) -> None:
    """Nothing is written, the exit code is 2, and no password is printed."""
    result = export(*(str(tmp_path / "DIR") if word == "DIR" else word for word in arguments))
    assert result.returncode == 2
    assert problem in result.stderr
    assert result.stderr.count("\n") == 1
    assert "secret" not in result.stderr
    assert not (tmp_path / "DIR").exists()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """The error names the path."""
    (tmp_path / "file").write_text("")
    result = export("config", tmp_path / "file")
    assert result.returncode == 1
    assert result.stderr == f"modelhost-exporter: {tmp_path}/file: must be a folder\n"
