"""The parts of the soak test: its limits and faults, and a short run."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

import pytest

from benchmarks.measuring import free_port
from benchmarks.soak.__main__ import run
from benchmarks.soak.cycle import BUSY, FAULTS, MEASURED, RELOADS, Cycles
from benchmarks.soak.engine import GARBAGE, HANG, REFUSE, FlappingEngine
from benchmarks.soak.gpus import COUNT, FlappingGpus
from benchmarks.soak.report import Row, header, judge
from tests.gpu.driver import skip_without_compiler

if TYPE_CHECKING:
    from pathlib import Path

ROW = Row(
    cycle=1,
    rss_bytes=60_000_000,
    descriptors=20,
    threads=10,
    series=900,
    scrapes=250,
    slowest_scrape_seconds=0.6,
    slowest_health_seconds=0.05,
    gap_seconds=0.05,
    bypass_gap_seconds=0.04,
)


def rows(**last: object) -> list[Row]:
    """Return 20 rows: four warm-up rows with low memory, equal ones, and a last one with the given changes."""
    some = [
        dataclasses.replace(ROW, cycle=number, rss_bytes=ROW.rss_bytes if number >= 5 else 1) for number in range(1, 20)
    ]
    return [*some, dataclasses.replace(ROW, cycle=20, **last)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("last", "missed"),
    [
        ({}, ""),
        ({"rss_bytes": 65_000_000, "descriptors": 22, "threads": 8, "gap_seconds": 0.25}, ""),
        ({"rss_bytes": 65_100_000}, "RSS +5.1 MB since cycle 5"),
        ({"descriptors": 23}, "descriptors +3 since cycle 5"),
        ({"threads": 7}, "threads -3 since cycle 5"),
        ({"gap_seconds": 0.26}, "longest gap of a stream 260 ms in cycle 20 at 0% of it (at most 250)"),
        ({"gap_seconds": 0.4, "bypass_gap_seconds": 0.2}, ""),
        (
            {"gap_seconds": 0.5, "bypass_gap_seconds": 0.2},
            "longest gap of a stream 500 ms in cycle 20 at 0% of it (at most 450)",
        ),
        ({"slowest_health_seconds": 1.1}, "slowest /-/healthy 1100 ms"),
    ],
)
def test_growth_and_stalls_are_judged(last: dict[str, object], missed: str) -> None:
    """Growth is measured from the fifth cycle; a gap in the direct stream is blamed on the machine."""
    figures = [figure.what for figure in judge(rows(**last)) if not figure.reached]
    assert len(figures) == bool(missed)
    assert all(figure.startswith(missed) for figure in figures)


def test_every_problem_is_a_miss() -> None:
    """Invalid and late responses are printed, whenever they occurred."""
    seen = rows()
    seen[2] = dataclasses.replace(seen[2], problems=["/metrics: 500 after 0.10 s"])
    missed = [figure.line() for figure in judge(seen) if not figure.reached]
    assert len(missed) == 2
    assert missed[1] == "MISS  /metrics: 500 after 0.10 s"


def test_a_short_run_has_a_short_warm_up() -> None:
    """The first of three cycles is the baseline; a single cycle is its own baseline."""
    grown = dataclasses.replace(ROW, cycle=3, threads=20)
    assert [f.what for f in judge([ROW, ROW, grown]) if not f.reached] == ["threads +10 since cycle 1 (at most 2)"]
    assert all(figure.reached for figure in judge([ROW]))


def test_columns_stand_below_their_names() -> None:
    """A row has the width of the header."""
    assert len(ROW.line()) == len(header())


def test_resources_are_read_when_all_is_quiet() -> None:
    """When a cycle is measured, faults and reloads have ended, and clients have been gone for 15 s of a minute."""
    assert max(FAULTS[-1].end, *RELOADS) < BUSY.end
    assert (MEASURED.begin - BUSY.end) * 60 > 15
    assert MEASURED.end < 1


def test_faults_follow_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fault has the same time window in every cycle and every process."""
    cycles = Cycles(1000, 60)
    seen: list[int | None] = []
    for percent in range(100):
        monkeypatch.setattr("time.monotonic", lambda now=percent / 100: 1000 + 60 * (7 + now))
        if not seen or seen[-1] != cycles.fault():
            seen.append(cycles.fault())
    assert seen == [None, REFUSE, HANG, GARBAGE, None]


def test_gpus_flap(tmp_path: Path) -> None:
    """The stand-in's script contains a fault's lines only during that fault."""
    gpus = FlappingGpus(tmp_path / "script")
    healthy = (tmp_path / "script").read_text()
    assert f"- Count {COUNT}\n" in healthy
    shown = set()
    for fault in range(len(FAULTS)):
        gpus.show(fault)
        shown.add((tmp_path / "script").read_text().removeprefix(healthy))
    assert shown == {"0 all hang\n", "- all !999\n", "1 all !15\n2 all !3\n"}
    gpus.show(None)
    assert (tmp_path / "script").read_text() == healthy


async def test_the_engine_flaps() -> None:
    """The engine responds, refuses, hangs, sends invalid HTTP, and responds again on the same port."""
    fault: list[int | None] = [None]
    engine = FlappingEngine(free_port(), lambda: fault[0])
    task = asyncio.create_task(engine.run())
    try:
        for now, wanted in (
            (None, "answer"),
            (REFUSE, "refused"),
            (HANG, "silent"),
            (GARBAGE, "garbage"),
            (None, "answer"),
        ):
            fault[0] = now
            async with asyncio.timeout(20):
                while await _reply(engine.port) != wanted:  # noqa: ASYNC110 - what a client sees is waited for
                    await asyncio.sleep(0.05)
    finally:
        task.cancel()


async def _reply(port: int) -> str:
    """Return the result of a request."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return "refused"
    try:
        writer.write(b"GET /version HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(0.3):
            line = await reader.readline()
    except TimeoutError:
        return "silent"
    except (OSError, ValueError):
        return "cut off"
    finally:
        writer.close()
    return "answer" if line.startswith(b"HTTP/1.1 200") else "garbage" if line else "cut off"


def test_a_trial_of_everything() -> None:
    """Two short cycles with the real exporter: scrapes are valid, streams continue, every type of client has run."""
    skip_without_compiler()
    seen = list(run(2, 4.0))
    assert [row.cycle for row in seen] == [1, 2]
    for row in seen:
        assert not [problem for problem in row.problems if "after" not in problem], row.problems
        assert row.scrapes > 2
        assert row.series > 500
        assert 0 < row.gap_seconds < 20
        assert {"streams", "streams left", "pages"} <= row.seen.keys()
