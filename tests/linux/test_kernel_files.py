from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.collector import Unavailable
from modelhost_exporter.linux.kernel_files import (
    count,
    count_if_possible,
    each_line,
    hexadecimal,
    parse_counts,
    parse_ranges,
    read,
    read_if_possible,
    text_of,
    whole_number,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_read(tmp_path: Path) -> None:
    """A file's text comes back whole."""
    file = tmp_path / "file"
    file.write_text("a 1\nb 2\n")
    assert read(file) == "a 1\nb 2\n"


def test_bytes_that_are_not_utf8_survive(tmp_path: Path) -> None:
    """Undecodable bytes of a device or mount are decoded as in Python's file names."""
    file = tmp_path / "file"
    file.write_bytes(b"/mnt/\xff\n")
    assert os.fsencode(read(file)) == b"/mnt/\xff\n"


@pytest.mark.parametrize("name", ["missing", "missing/file", "file/below"])
def test_what_this_kernel_lacks_is_unavailable(name: str, tmp_path: Path) -> None:
    """A missing file is Unavailable, with its name: the machine lacks it."""
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match=name):
        read(tmp_path / name)


def test_any_other_error_is_an_error(tmp_path: Path) -> None:
    """What is there and cannot be read is a failure, not a lack."""
    with pytest.raises(IsADirectoryError):
        read(tmp_path)


@pytest.mark.parametrize(
    ("text", "number"), [("7\n", 7), ("4 (3)\n", 4), ("-1\n", None), ("\n", None), ("N/A (no PMA)\n", None)]
)
def test_a_count_if_possible(text: str, number: int | None, tmp_path: Path) -> None:
    """The number at the start of a file counts; a file without one, and one that is missing, are None."""
    (tmp_path / "file").write_text(text)
    assert count_if_possible(tmp_path / "file") == number
    assert count_if_possible(tmp_path / "missing") is None


@pytest.mark.parametrize("text", ["", "0x1f", "-1", "+1", "1_0", " 1", "g", "\u0661", "1" * 17])
def test_what_is_not_hexadecimal(text: str) -> None:
    """Python's int accepts more than the kernel writes."""
    with pytest.raises(ValueError, match="not hexadecimal"):
        hexadecimal(text)


def test_hexadecimal() -> None:
    """Digits in both cases, up to 64 bits."""
    assert (hexadecimal("000c25d8"), hexadecimal("F" * 16)) == (796120, 2**64 - 1)


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
    """Lists of numbers in the kernel's format are parsed."""
    assert parse_ranges(text) == numbers


@pytest.mark.parametrize("text", ["", "odd", "-", "--1", "+1", " 1", "1 ", "1_0", "1.0", "nan", "²", "١", "9" * 21])
def test_what_is_no_number(text: str) -> None:
    """A number is ASCII digits, at most as many as 64 bits have: no text is slow to parse or overflows later."""
    with pytest.raises(ValueError, match="not a whole number"):
        whole_number(text)


def test_numbers() -> None:
    """Counts are not negative; other numbers may be."""
    assert (whole_number("-5"), count("0"), count(str(2**64 - 1))) == (-5, 0, 2**64 - 1)
    with pytest.raises(ValueError, match="negative"):
        count("-5")


@pytest.mark.parametrize("text", ["odd", "", "3-x", "-1", "0-99999999999"])
def test_what_is_no_range(text: str) -> None:
    """An invalid list is an error, and never a list of a billion numbers."""
    with pytest.raises(ValueError, match=r"number|large"):
        parse_ranges(text)


def test_odd_counts_are_left_out() -> None:
    """A line with digits that only Python accepts is skipped."""
    assert parse_counts(f"a ²\nb {'9' * 5000}\nc 1_0\nd 4\n") == {"d": 4}


def test_each_line_ends_with_a_newline_alone() -> None:
    """Only a newline ends a line; other line separators of Python may be part of a name."""
    assert each_line("a\x0bb\n\n\u2028\x85\n", str, "test") == ["a\x0bb", "\u2028\x85"]


def test_a_file_that_may_be_absent(tmp_path: Path) -> None:
    """A file that is absent or cannot be read is None; other text is stripped."""
    (tmp_path / "file").write_text("up\n")
    names = ("file", "missing", ".", "bad\0name")
    assert [read_if_possible(tmp_path / name) for name in names] == ["up", None, None, None]


def test_a_driver_that_is_not_ready_is_an_error_of_the_system(tmp_path: Path) -> None:
    """EAGAIN is an OSError as any other, which costs this file alone, and names it."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    file = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)  # a FIFO without data, opened so that reading does not wait
    try:
        with pytest.raises(BlockingIOError, match="fifo"):
            text_of(file, fifo)
    finally:
        os.close(file)


def test_a_file_is_read_to_its_end(tmp_path: Path) -> None:
    """Kernel files come in parts: a read returns less than it was asked for before the end."""
    reader, writer = os.pipe()
    try:
        os.write(writer, b"a" * 20_000)
        os.close(writer)
        assert text_of(reader, tmp_path) == "a" * 20_000
    finally:
        os.close(reader)
