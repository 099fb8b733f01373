"""The measurements of each cycle, and the comparison of the last one with the baseline."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.measuring import verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WARM_UP_CYCLES = 5
_MB = 1e6
_MAX_GROWTH_BYTES = 5 * _MB
_MAX_CHANGE = 2
_MAX_GAP_SECONDS = 0.25
_UNDISTURBED_SECONDS = 0.1
_MAX_HEALTH_SECONDS = 1.0

_HEADER = (
    *("cycle", "RSS MB", "descriptors", "threads", "series", "scrapes", "slowest ms", "health ms"),
    *("gap ms", "bypass ms", "invalid or late"),
)
_WIDTHS = tuple(map(len, _HEADER))


@dataclass(frozen=True)
class Row:
    """A cycle: resources in its quiet end, and the worst values of the whole cycle."""

    cycle: int
    rss_bytes: int
    descriptors: int
    threads: int
    series: int
    scrapes: int
    slowest_scrape_seconds: float
    slowest_health_seconds: float
    gap_seconds: float
    bypass_gap_seconds: float
    gap_ended: float = 0.0
    """Time within the cycle, as a share of it; ``cycle.py`` has the actions by time."""
    problems: Sequence[str] = ()
    seen: Mapping[str, int] = field(default_factory=dict)
    """Counts of the clients' actions."""

    def line(self) -> str:
        """Return the line of the table."""
        cells = (
            *(str(self.cycle), f"{self.rss_bytes / _MB:.1f}", str(self.descriptors), str(self.threads)),
            *(str(self.series), str(self.scrapes), _ms(self.slowest_scrape_seconds), _ms(self.slowest_health_seconds)),
            *(_ms(self.gap_seconds), _ms(self.bypass_gap_seconds), str(len(self.problems))),
        )
        return "  ".join(cell.rjust(width) for cell, width in zip(cells, _WIDTHS, strict=True))

    @property
    def max_gap_seconds(self) -> float:
        """The longest gap that a proxied stream may have.

        A machine that is busy with something else stalls the stream that bypasses the exporter too: that much more.
        """
        stalled = self.bypass_gap_seconds > _UNDISTURBED_SECONDS
        return _MAX_GAP_SECONDS + (self.bypass_gap_seconds if stalled else 0.0)


class Figure(NamedTuple):
    """A figure with its limit."""

    what: str
    reached: bool

    def line(self) -> str:
        """Return the figure with its verdict."""
        return f"{verdict(reached=self.reached)}  {self.what}"


def header() -> str:
    """Return the first line of the table."""
    return "  ".join(_HEADER)


def judge(rows: Sequence[Row]) -> list[Figure]:
    """Compare the last cycle with the one that ends the warm-up (a third of a short run), and all with the limits."""
    base = rows[min(WARM_UP_CYCLES, max(1, len(rows) // 3)) - 1]
    last = rows[-1]
    growth = last.rss_bytes - base.rss_bytes
    gap = max(rows, key=lambda row: row.gap_seconds - row.max_gap_seconds)
    health = max(row.slowest_health_seconds for row in rows)
    problems = [problem for row in rows for problem in row.problems]
    since = f"since cycle {base.cycle}"
    return [
        Figure(f"RSS {growth / _MB:+.1f} MB {since} (at most +5)", growth <= _MAX_GROWTH_BYTES),
        *(
            Figure(f"{name} {after - before:+d} {since} (at most 2)", abs(after - before) <= _MAX_CHANGE)
            for name, before, after in (
                ("descriptors", base.descriptors, last.descriptors),
                ("threads", base.threads, last.threads),
            )
        ),
        Figure(
            f"longest gap of a stream {_ms(gap.gap_seconds)} ms in cycle {gap.cycle} at {gap.gap_ended:.0%} of it"
            f" (at most {_ms(gap.max_gap_seconds)})",
            gap.gap_seconds <= gap.max_gap_seconds,
        ),
        Figure(f"slowest /-/healthy {_ms(health)} ms (at most 1000)", health <= _MAX_HEALTH_SECONDS),
        Figure(f"scrapes invalid or late, broken streams, errors in the log: {len(problems)}", not problems),
        *(Figure(problem, reached=False) for problem in problems[:10]),
    ]


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.0f}"
