"""The files that the image is built from."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BUILD = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
CONTEXT = [line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"]


@pytest.mark.parametrize("source", BUILD["wheel"]["force-include"])
def test_the_image_is_built_from_what_the_wheel_contains(source: str) -> None:
    """A file that is missing from the build's context fails the build of the wheel in the image."""
    assert any(source == path or source.startswith(f"{path}/") for path in CONTEXT)
