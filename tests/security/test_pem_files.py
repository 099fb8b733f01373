from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from modelhost_exporter.security.pem_files import file_with

if TYPE_CHECKING:
    import pytest


def test_the_content_is_in_memory_only() -> None:
    """A file that no disk keeps, which can be opened more than once, and is gone afterwards."""
    with file_with(b"x" * 100_000) as path:
        assert path.startswith("/proc/self/fd/")
        assert [Path(path).read_bytes() for _ in range(2)] == [b"x" * 100_000] * 2
    assert not Path(path).exists()


def test_without_such_files_it_is_a_private_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has none, or forbids it: only its owner can read the file, and it is removed."""

    def forbidden(_name: str) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "memfd_create", forbidden)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with file_with(b"key") as path:
        assert Path(path).read_bytes() == b"key"
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
    assert not list(tmp_path.iterdir())
