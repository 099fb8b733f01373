"""The table of the dashboards: the slowest panel of each, and every panel that takes too long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.measuring import table, verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.dashboards.timing import Timed


def report(measured: Mapping[str, Sequence[Timed]], allowed: Mapping[str, float]) -> str:
    """Return the table of measurements over each time range, with a limit in seconds for each."""
    boards = dict.fromkeys(one.board for many in measured.values() for one in many)
    rows = [["", *(cell for over in allowed for cell in (f"{over}, s", "CPU, s")), "to reach"]]
    for board in boards:
        slowest = [max((one for one in measured[over] if one.board == board), key=_usual) for over in allowed]
        cells = [cell for one in slowest for cell in (f"{one.usual:.2f}", f"{one.cpu:.2f}")]
        reached = all(one.usual <= allowed[over] for over, one in zip(allowed, slowest, strict=True))
        names = "; ".join(f"{over}: {_named(one)}" for over, one in zip(allowed, slowest, strict=True))
        rows.append([board, *cells, f"{verdict(reached=reached)}  {names}"])
    limits = ", ".join(f"{seconds:g} s over {over}" for over, seconds in allowed.items())
    return "\n".join([f"the slowest panel of each; at most {limits}", table(rows), *_missed(measured, allowed)])


def _missed(measured: Mapping[str, Sequence[Timed]], allowed: Mapping[str, float]) -> list[str]:
    slow = [(over, one) for over, seconds in allowed.items() for one in measured[over] if one.usual > seconds]
    lines = [
        f"  {one.usual:6.2f} s over {over} ({one.first:.2f} at first, {one.cpu:.2f} of CPU): {one.board}, {_named(one)}"
        for over, one in slow
    ]
    return [f"\n{len(lines)} too slow:", *lines] if lines else ["\nNo panel is too slow."]


def _usual(one: Timed) -> float:
    return one.usual


def _named(one: Timed) -> str:
    return f"{one.panel} ({one.chosen})"
