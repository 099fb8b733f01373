"""The wheel and the sdist that are built from this tree."""

from __future__ import annotations

import email
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import hatch_build
from modelhost_exporter import __version__, collectors
from modelhost_exporter.export import contents
from modelhost_exporter.export.links import Links
from tests.support.programs import DEADLINE_SECONDS, installed, missing

ROOT = Path(__file__).parent.parent
DIST_INFO = f"modelhost_exporter-{__version__}.dist-info"


def build(kind: str, folder: Path, root: Path = ROOT) -> Path:
    """Build the wheel or the sdist with the tools that are installed, without a network."""
    if not hatch_build.is_built(ROOT):
        missing("the charts are not built: pip install --editable .")
    subprocess.run(
        [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", folder, root],
        check=True,
        capture_output=True,
        timeout=6 * DEADLINE_SECONDS,
    )
    return next(folder.glob("*.whl" if kind == "wheel" else "*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel of this tree."""
    return build("wheel", tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    """The wheel contains every collector, the type marker and the licence, and neither tests nor tools."""
    names = zipfile.ZipFile(wheel).namelist()
    for name in collectors.names():
        assert f"modelhost_exporter/collectors/{name}.py" in names
    assert "modelhost_exporter/py.typed" in names
    assert any(name.endswith("LICENSE") for name in names)
    for name in ("index.html", "app.js", "app.css", *hatch_build.FILES.values()):
        assert f"modelhost_exporter/page/static/{name}" in names
    assert {name.partition("/")[0] for name in names} == {
        "modelhost_exporter",
        f"modelhost_exporter-{__version__}.dist-info",
    }


def test_the_sdist_holds_what_is_named_and_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    """No .env, .ci, .data or configuration of somebody's; charts, hashes and the hook are there."""
    with tarfile.open(build("sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        archive.extractall(tmp_path, filter="data")
    assert {name.partition("/")[0] for name in names} == {
        *(".gitignore", "PKG-INFO", "pyproject.toml", "LICENSE", "README.md", "CHANGELOG.md", "SECURITY.md"),
        *(
            "config.example.yaml",
            "deploy",
            "docs",
            "exporter",
            "grafana",
            "hatch_build.py",
            "npm",
            "prometheus",
            "requirements",
        ),
    }
    (source,) = tmp_path.glob("modelhost_exporter-*/")
    again = build("wheel", tmp_path / "wheel", source)
    assert set(zipfile.ZipFile(again).namelist()) == set(zipfile.ZipFile(wheel).namelist())


def test_a_release_needs_a_home(tmp_path: Path) -> None:
    """While hatch_build.py names no repository a release build fails with that reason, and builds nothing."""
    assert hatch_build.HOME == ""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    environment = {**os.environ, hatch_build.RELEASE: "1"}
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=6 * DEADLINE_SECONDS, check=False
    )
    assert result.returncode != 0
    assert "HOME is empty" in result.stdout + result.stderr
    assert not list(tmp_path.iterdir())


def test_the_metadata_has_the_readme(wheel: Path) -> None:
    """The README is the description, as Markdown; without a home there are no project URLs."""
    metadata = email.message_from_bytes(zipfile.ZipFile(wheel).read(f"{DIST_INFO}/METADATA"))
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert "# modelhost-exporter" in metadata.get_payload()
    assert metadata.get_all("Project-URL") is None
    assert "Programming Language :: Python :: 3.11" in metadata.get_all("Classifier", [])


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a fresh virtual environment with the wheel; its dependencies are those of the test run."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(folder)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", folder / "bin/python"),
            *("install", "--quiet", "--no-deps", "--no-index", wheel),
        ],
        check=True,
        capture_output=True,
        timeout=6 * DEADLINE_SECONDS,
    )
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    site = next((folder / "lib").glob("python*")) / "site-packages"
    (site / "dependencies.pth").write_text(packages)
    return folder


def output(*command: str | Path, folder: Path) -> str:
    """Run a program in a folder and return what it prints; fails the test if the program fails."""
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def test_the_installed_wheel_runs_outside_the_checkout(environment: Path, tmp_path: Path) -> None:
    """Installed into a fresh environment, the console script runs from any folder and finds its collectors."""
    shown = output(environment / "bin/modelhost-exporter", "--help", folder=tmp_path)
    for name in collectors.names():
        assert f"--collector.{name}" in shown
    located = output(
        *(environment / "bin/python", "-c", "import modelhost_exporter; print(modelhost_exporter.__file__)"),
        folder=tmp_path,
    )
    assert located.startswith(str(environment))


@pytest.fixture(scope="module")
def exported(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with everything that the installed wheel exports, with absolute links and a job of its own."""
    folder = tmp_path_factory.mktemp("exported")
    output(
        *(environment / "bin/modelhost-exporter", "export", "all", "everything", "--job=gpu.hosts"),
        *("--runbook-base-url=https://docs.example.com/runbook.md", "--grafana-url=https://grafana.example.com"),
        folder=folder,
    )
    return folder / "everything"


def test_the_installed_wheel_exports_what_a_checkout_does(exported: Path) -> None:
    """The wheel contains every file that the export of a checkout has."""
    found = {str(file.relative_to(exported)): file.read_text() for file in exported.rglob("*") if file.is_file()}
    links = Links("https://docs.example.com/runbook.md", "https://grafana.example.com", "gpu.hosts")
    assert found == contents.files("all", links)


def test_exported_rules_and_settings_are_valid(exported: Path) -> None:
    """Promtool accepts rules and settings, amtool the settings of Alertmanager."""
    promtool, amtool = installed("promtool"), installed("amtool")
    output(promtool, "check", "rules", *sorted((exported / "rules").glob("*.yml")), folder=exported)
    report = output(promtool, "check", "config", exported / "prometheus/prometheus.yml", folder=exported)
    assert "2 rule files found" in report
    output(amtool, "check-config", exported / "alertmanager/alertmanager.yml", folder=exported)


def test_the_exported_configuration_is_valid(environment: Path, exported: Path) -> None:
    """The exporter itself accepts it."""
    checked = output(
        environment / "bin/modelhost-exporter",
        "--config.file=config.yaml",
        "--config.check",
        folder=exported / "config",
    )
    assert "config.yaml: valid" in checked
