"""Compile the C shims of this folder and preload them into programs."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.programs import installed, missing

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCES = Path(__file__).parent


def compiled(name: str, folder: Path) -> Path:
    """Compile NAME.c into a shared library in ``folder``; skip the test without a C compiler or Linux."""
    if sys.platform != "linux":
        missing("LD_PRELOAD needs Linux")
    library = folder / f"{name}.so"
    command = (installed("cc", "gcc"), "-shared", "-fPIC", "-O1", "-o", library, SOURCES / f"{name}.c", "-ldl")
    subprocess.run(command, check=True)
    return library


@contextlib.contextmanager
def preloaded(library: Path, **environment: str) -> Iterator[None]:
    """Preload a shim, with its environment, into the programs that are started in the block."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"LD_PRELOAD": str(library), **environment}.items():
            patch.setenv(name, value)
        yield
