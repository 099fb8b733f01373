"""Read and parse the small text files of /proc and /sys: the only place of the package that opens them.

What cannot be parsed is skipped and logged once, so that one odd line, number or file does not cost the others.
"""

from __future__ import annotations

import os
import re
import string
from typing import TYPE_CHECKING, TypeVar

from modelhost_exporter.collector import Unavailable, log_once

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

T = TypeVar("T")

PAGE_BYTES = 4096
"""The maximum size of a file in sysfs (Linux Documentation/filesystems/sysfs.rst)."""

_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0)  # the latter on Windows
_READ_BYTES = 1 << 14
_MAX_DIGITS = 20  # of 2⁶⁴
_HEXADECIMAL_DIGITS = frozenset(string.hexdigits)
_MAX_HEXADECIMAL_DIGITS = 16
_MAX_NUMBERS = 1 << 16
_LOGGED_CHARACTERS = 120
_COUNT = re.compile(rf"^[ \t]*(\S+)[ \t]+(\d{{1,{_MAX_DIGITS}}})(?!\S)", re.ASCII | re.MULTILINE)


def read(path: Path | str) -> str:
    """Return a kernel file's text. Raises Unavailable where it does not exist, OSError where it cannot be read.

    A file object makes three system calls more than are necessary, which is a third of the time of a small file.
    """
    try:
        file = os.open(path, _READ)
    except (FileNotFoundError, NotADirectoryError) as missing:
        raise Unavailable(f"{path} does not exist") from missing
    try:
        return text_of(file, path)
    finally:
        os.close(file)


def text_of(file: int, path: Path | str) -> str:
    """Return the text of an open kernel file."""
    try:
        content = os.read(file, _READ_BYTES)
        while more := os.read(file, _READ_BYTES):
            content += more
    except BlockingIOError as not_ready:  # EAGAIN, which drivers of sensors return while one is not ready
        not_ready.filename = str(path)
        raise
    return content.decode("utf-8", "surrogateescape")  # text mode would end lines at \r in names


def read_if_possible(path: Path | str) -> str | None:
    """Return a kernel file's text, stripped; None where it is absent or cannot be read."""
    try:
        return read(path).strip()
    except (OSError, ValueError, Unavailable):
        return None


def is_present(path: Path | str) -> bool:
    """Return whether a file, folder or link with a target is there; False where that cannot be found out."""
    try:
        os.stat(path)  # noqa: PTH116 - half the time of a Path
    except (OSError, ValueError):
        return False
    return True


def first_page(path: Path, size: int = PAGE_BYTES) -> bytes:
    """Return the first ``size`` bytes of a file (default: a page); b'' where it is absent or cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(size) or b""  # None for EAGAIN
    except OSError:
        return b""


def whole_number(text: str) -> int:
    """Parse ASCII digits with an optional minus sign; ValueError for anything else.

    Unlike ``int``, which also accepts blanks, underscores and other scripts' digits, in any length.
    """
    digits = text.removeprefix("-")
    if not _is_count(digits):
        raise ValueError(f"not a whole number: {text[:_LOGGED_CHARACTERS]!r}")
    return int(text)


def count(text: str) -> int:
    """Parse a whole number that is not negative; ValueError for anything else."""
    if _is_count(text):
        return int(text)
    number = whole_number(text)
    if number < 0:
        raise ValueError(f"negative: {text}")
    return number


def _is_count(text: str) -> bool:
    return text.isdigit() and text.isascii() and len(text) <= _MAX_DIGITS


def all_counts(words: Sequence[str]) -> list[int]:
    """Parse whole numbers that are not negative, faster than one by one; ValueError if there is anything else."""
    joined = "".join(words)
    if not (joined.isascii() and joined.isdigit() and all(words) and max(map(len, words)) <= _MAX_DIGITS):
        raise ValueError(f"not whole numbers: {words!r}"[:_LOGGED_CHARACTERS])
    return list(map(int, words))


def hexadecimal(text: str) -> int:
    """Parse hexadecimal ASCII digits without sign or prefix; ValueError for anything else."""
    if not (0 < len(text) <= _MAX_HEXADECIMAL_DIGITS and _HEXADECIMAL_DIGITS.issuperset(text)):
        raise ValueError(f"not hexadecimal: {text[:_LOGGED_CHARACTERS]!r}")
    return int(text, 16)


def count_if_possible(path: Path, end: str = " ") -> int | None:
    """Return the number at the start of a kernel file, up to ``end``; None if there is none, or it is not readable."""
    try:
        return count((read_if_possible(path) or "").split(end)[0])
    except ValueError:
        return None


def each_line(text: str, parse: Callable[[str], T], source: str) -> list[T]:
    """Parse each line that is not empty, and skip those for which ``parse`` raises ValueError or IndexError.

    Lines end with a newline only: names in them may contain what ``str.splitlines`` also treats as the end of a line.
    """
    parsed = []
    for line in filter(None, text.split("\n")):
        try:
            parsed.append(parse(line))
        except (ValueError, IndexError):
            log_once(source, f"cannot be parsed: {line[:_LOGGED_CHARACTERS]!r}")
    return parsed


def parse_counts(text: str) -> dict[str, int]:
    """Parse lines of ``name number …`` (vmstat, /proc/stat, cpu.stat): the first number of each line."""
    return {name: int(number) for name, number in _COUNT.findall(text)}


def parse_ranges(text: str) -> list[int]:
    """Parse a list of numbers in the kernel's form, such as ``0-3,8``; ValueError for anything else."""
    numbers: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        end = count(last or first) + 1
        if end > _MAX_NUMBERS:
            raise ValueError(f"too large: {part}")
        numbers.extend(range(count(first), end))
    return numbers
