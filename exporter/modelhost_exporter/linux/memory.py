"""Memory and swap from /proc/meminfo, as psutil defines them, and the cache of ZFS."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.linux.kernel_files import count, each_line, read, read_if_possible

if TYPE_CHECKING:
    from pathlib import Path

_KIBIBYTE = 1024


class VirtualMemory(NamedTuple):
    """Memory in bytes, under psutil's names; None where the kernel does not report it."""

    total: int | None
    available: int | None
    used: int | None
    free: int | None
    cached: int | None
    buffers: int | None


class SwapMemory(NamedTuple):
    """Swap in bytes, under psutil's names; None where the kernel does not report it."""

    total: int | None
    used: int | None
    free: int | None


class Memory:
    """Memory and swap from the given /proc."""

    def __init__(self, procfs: Path) -> None:
        self._procfs = procfs

    def reading(self) -> Memory:
        """Return a new one: each reads meminfo once."""
        return Memory(self._procfs)

    @cached_property
    def meminfo(self) -> dict[str, int]:
        """Bytes, and numbers of huge pages, by name."""
        return parse_meminfo(read(self._procfs / "meminfo"))

    def virtual_memory(self) -> VirtualMemory:
        """Return memory in bytes; ``used`` is what is not available, and ``cached`` includes reclaimable slab."""
        found = self.meminfo
        total, free, cached = found.get("MemTotal"), found.get("MemFree"), found.get("Cached")
        available = found.get("MemAvailable") or _sum(free, cached)  # 0 is a bug of some kernels
        if total is not None and available is not None and available > total:  # in a container with a smaller total
            available = free
        if total is not None and available is not None:
            arcstats = read_if_possible(self._procfs / "spl/kstat/zfs/arcstats") or ""
            available = min(total, available + parse_arcstats(arcstats))
        return VirtualMemory(
            total=total,
            available=available,
            used=_difference(total, available),
            free=free,
            cached=_sum(cached, found.get("SReclaimable", 0)),
            buffers=found.get("Buffers"),
        )

    def swap_memory(self) -> SwapMemory:
        """Return swap in bytes."""
        found = self.meminfo
        total, free = found.get("SwapTotal"), found.get("SwapFree")
        return SwapMemory(total, _difference(total, free), free)


def parse_meminfo(text: str) -> dict[str, int]:
    """Return bytes, and numbers of huge pages, by name from /proc/meminfo."""
    return dict(each_line(text, _parse_line, "meminfo"))


def parse_arcstats(text: str) -> int:
    """Return the bytes that ZFS gives back when programs need memory; 0 if unknown.

    MemAvailable does not include its cache (ARC), which shrinks to ``c_min``. Lines have a name, a type and a value.
    """
    found = {words[0]: words[2] for words in map(str.split, text.split("\n")) if len(words) == 3}  # noqa: PLR2004
    try:
        return max(0, count(found["size"]) - count(found["c_min"]))
    except (KeyError, ValueError):
        return 0


def _parse_line(line: str) -> tuple[str, int]:
    name, _, rest = line.partition(":")
    number, *unit = rest.split()
    return name, count(number) * (_KIBIBYTE if unit else 1)


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second


def _difference(whole: int | None, part: int | None) -> int | None:
    return None if whole is None or part is None else max(0, whole - part)
