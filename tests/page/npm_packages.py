"""The npm packages of the browser tests: installed once by their lock file, into a folder outside the repository."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.support.programs import installed

_FOLDER = Path(__file__).parent / "npm"
_FILES = ("package.json", "package-lock.json")
_INSTALL_SECONDS = 240
_UNREACHABLE = re.compile(r"\b(E(AI_AGAIN|NOTFOUND|CONNREFUSED|CONNRESET|TIMEDOUT|NETUNREACH|HOSTUNREACH|503|502))\b")


def node_modules() -> Path:
    """Return the folder of the packages; skips the test without node (in CI: fails it), or without npm's registry."""
    installed("node")
    npm = installed("npm")
    files = [_FOLDER / name for name in _FILES]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "modelhost-npm" / digest
    if not folder.exists():
        _install(npm, files, folder)
    return folder / "node_modules"


def _install(npm: str, files: list[Path], folder: Path) -> None:
    """Install into a folder that appears as a whole, since other tests may install at the same time."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        for file in files:
            shutil.copy(file, temporary)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
        try:
            done = subprocess.run(
                command, cwd=temporary, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            pytest.skip(f"npm ci took more than {_INSTALL_SECONDS} s")
        if done.returncode and (reason := _UNREACHABLE.search(done.stderr)):
            pytest.skip(f"npm's registry cannot be reached: {reason[1]}")
        assert done.returncode == 0, done.stderr
        complete = Path(temporary) / "complete"
        complete.mkdir()
        shutil.move(Path(temporary) / "node_modules", complete)
        try:
            complete.rename(folder)
        except OSError:  # another test was faster
            assert folder.exists()
