"""Reading the small text files of /proc and /sys; parsing apart from reading."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.collectors import Unavailable

if TYPE_CHECKING:
    from pathlib import Path


def read(path: Path) -> str:
    """Return a kernel file's text; Unavailable where this kernel does not have it, OSError otherwise."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError) as missing:
        raise Unavailable(f"{path} does not exist") from missing


def parse_counts(text: str) -> dict[str, int]:
    """Parse lines of ``name number …`` (vmstat, /proc/stat, cpu.stat): the first number of each line."""
    counts = {}
    for line in text.splitlines():
        name, _, rest = line.partition(" ")
        number = rest.split(maxsplit=1)[:1]
        if number and number[0].isdigit():
            counts[name] = int(number[0])
    return counts


def parse_ranges(text: str) -> list[int]:
    """Parse a list of numbers as the kernel writes it: ``0-3,8``."""
    numbers: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return numbers
