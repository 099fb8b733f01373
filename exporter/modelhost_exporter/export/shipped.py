"""The files that are shipped with the package: in a wheel below ``share``, in a checkout where they are maintained."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent.parent


def root() -> Path:
    """Return the folder below which the shipped files have the paths of the repository."""
    share = _PACKAGE / "share"
    return share if share.is_dir() else _PACKAGE.parent.parent


def text(name: str) -> str:
    """Return the content of a shipped file."""
    return (root() / name).read_text(encoding="utf-8")


def folder(name: str, pattern: str) -> dict[str, str]:
    """Return the content of each file of a shipped folder that matches the pattern, by its name."""
    return {file.name: text(f"{name}/{file.name}") for file in sorted((root() / name).glob(pattern))}
