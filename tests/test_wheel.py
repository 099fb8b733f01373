"""The wheel that is built from the tree is whole."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import hatch_build
from exporter import __version__, collectors
from tests.programs import DEADLINE_SECONDS, missing

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel with the tools that are installed, without a network."""
    if not hatch_build.is_built(ROOT):
        missing("the charts are not built: pip install --editable .")
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT],
        check=True,
        capture_output=True,
        timeout=6 * DEADLINE_SECONDS,
    )
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    """Every collector, the type marker and the licence are in it; tests and tools are not."""
    names = zipfile.ZipFile(wheel).namelist()
    for name in collectors.names():
        assert f"exporter/collectors/{name}.py" in names
    assert "exporter/py.typed" in names
    assert any(name.endswith("LICENSE") for name in names)
    for name in ("index.html", "app.js", "app.css", *hatch_build.FILES.values()):
        assert f"exporter/page/static/{name}" in names
    assert {name.partition("/")[0] for name in names} == {"exporter", f"modelhost_exporter-{__version__}.dist-info"}


def test_the_installed_wheel_runs_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """Installed into a fresh environment, the console script runs from any folder and finds its collectors."""
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=True)
    python = environment / "bin/python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel],
        check=True,
        capture_output=True,
        timeout=6 * DEADLINE_SECONDS,
    )
    # its dependencies are those of the test run: no network is needed
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    site = next((environment / "lib").glob("python*")) / "site-packages"
    (site / "dependencies.pth").write_text(packages)
    script = environment / "bin/modelhost-exporter"
    shown = subprocess.run(
        [script, "--help"], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=DEADLINE_SECONDS
    ).stdout
    for name in collectors.names():
        assert f"--collector.{name}" in shown
    located = subprocess.run(
        [python, "-c", "import exporter; print(exporter.__file__)"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
    ).stdout
    assert located.startswith(str(environment))
