"""Reading the small text files of /proc and /sys; parsing apart from reading.

One odd line, number or file costs only itself: what cannot be parsed is left out, and logged once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from modelhost_exporter.collector import Unavailable, log_once

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")

PAGE_BYTES = 4096
"""The most that an attribute in sysfs holds (Linux Documentation/filesystems/sysfs.rst)."""

_MAX_DIGITS = 20  # of 2⁶⁴
_MAX_NUMBERS = 1 << 16
_LOGGED_CHARACTERS = 120


def read(path: Path) -> str:
    """Return a kernel file's text; Unavailable where this kernel does not have it, OSError otherwise."""
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")  # read_text would end lines at \r in names
    except (FileNotFoundError, NotADirectoryError) as missing:
        raise Unavailable(f"{path} does not exist") from missing


def read_if_possible(path: Path) -> str | None:
    """Return a kernel file's text without surrounding blanks; None where it is absent or cannot be read."""
    try:
        return read(path).strip()
    except (OSError, ValueError, Unavailable):
        return None


def first_page(path: Path, size: int = PAGE_BYTES) -> bytes:
    """Return the first bytes of a kernel file, a page unless ``size`` is given; b'' where it is absent or refuses."""
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError:
        return b""


def whole_number(text: str) -> int:
    """Parse a number of the kernel, of ASCII digits with an optional minus; ValueError for anything else.

    ``int`` also parses blanks, underscores and other scripts' digits, in any length.
    """
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS):
        raise ValueError(f"not a whole number: {text[:_LOGGED_CHARACTERS]!r}")
    return int(text)


def count(text: str) -> int:
    """Parse a number that cannot be negative; ValueError for anything else."""
    number = whole_number(text)
    if number < 0:
        raise ValueError(f"negative: {text}")
    return number


def each_line(text: str, parse: Callable[[str], T], source: str) -> list[T]:
    """Parse each line that is not empty, and leave out those for which ``parse`` raises ValueError or IndexError.

    Lines end with a newline alone: names in them may hold what ``str.splitlines`` also takes for an end.
    """
    parsed = []
    for line in filter(None, text.split("\n")):
        try:
            parsed.append(parse(line))
        except (ValueError, IndexError):
            log_once(source, f"not understood: {line[:_LOGGED_CHARACTERS]!r}")
    return parsed


def parse_counts(text: str) -> dict[str, int]:
    """Parse lines of ``name number …`` (vmstat, /proc/stat, cpu.stat): the first number of each line."""
    counts = {}
    for line in text.split("\n"):
        words = line.split(maxsplit=2)
        try:
            counts[words[0]] = count(words[1])
        except (ValueError, IndexError):  # text, or a line of another kind
            continue
    return counts


def parse_ranges(text: str) -> list[int]:
    """Parse a list of numbers as the kernel writes it: ``0-3,8``; ValueError for anything else."""
    numbers: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        end = count(last or first) + 1
        if end > _MAX_NUMBERS:
            raise ValueError(f"too large: {part}")
        numbers.extend(range(count(first), end))
    return numbers
