from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from exporter.collectors import Unavailable
from exporter.kernel_files import parse_counts, parse_ranges, read

if TYPE_CHECKING:
    from pathlib import Path


def test_read(tmp_path: Path) -> None:
    """A file's text comes back whole."""
    file = tmp_path / "file"
    file.write_text("a 1\nb 2\n")
    assert read(file) == "a 1\nb 2\n"


def test_bytes_that_are_not_utf8_survive(tmp_path: Path) -> None:
    """Undecodable bytes (a device's or mount's name) come back as Python's file names have them."""
    file = tmp_path / "file"
    file.write_bytes(b"/mnt/\xff\n")
    assert os.fsencode(read(file)) == b"/mnt/\xff\n"


@pytest.mark.parametrize("name", ["missing", "missing/file", "file/below"])
def test_what_this_kernel_lacks_is_unavailable(name: str, tmp_path: Path) -> None:
    """A missing file says that the machine lacks it, and names the file."""
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match=name):
        read(tmp_path / name)


def test_any_other_error_is_an_error(tmp_path: Path) -> None:
    """What is there and cannot be read is a failure, not a lack."""
    with pytest.raises(IsADirectoryError):
        read(tmp_path)


def test_parse_counts() -> None:
    """The first number of each line counts, under the line's first word; lines without a number are left out."""
    text = "cpu  10 20\nintr 5 1 2 3\nprocs_running 2\nname text\nalone\n\nnegative -1\nlast 9"
    assert parse_counts(text) == {"cpu": 10, "intr": 5, "procs_running": 2, "last": 9}
    assert parse_counts("") == {}


def test_large_counts_are_exact() -> None:
    """Counters of 64 bits are read as whole numbers."""
    assert parse_counts(f"x {2**64 - 1}\n") == {"x": 2**64 - 1}


@pytest.mark.parametrize(("text", "numbers"), [("0-3,8\n", [0, 1, 2, 3, 8]), ("0\n", [0]), ("1,3", [1, 3])])
def test_ranges(text: str, numbers: list[int]) -> None:
    """The kernel's lists of numbers are read as they are meant."""
    assert parse_ranges(text) == numbers
