from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.collector import CollectorContext, CollectorOptions, Unavailable
from modelhost_exporter.collectors.conntrack import ConntrackCollector, create, parse_statistics
from tests.support.machine import FILES, write
from tests.support.readings import readings, readings_or_reason

if TYPE_CHECKING:
    from pathlib import Path


def test_the_table(tmp_path: Path) -> None:
    """Entries, limit, and the sum of the CPUs' hexadecimal statistics."""
    read = readings(ConntrackCollector(write(tmp_path, FILES) / "proc").collect())
    assert {name: value[()] for name, value in read.items()} == {
        "nf_conntrack_entries": 77,
        "nf_conntrack_entries_limit": 262144,
        "nf_conntrack_stat_drop_total": 0x10 + 1,
        "nf_conntrack_stat_early_drop_total": 2,
        "nf_conntrack_stat_insert_failed_total": 4,
        "nf_conntrack_stat_invalid_total": 0xA,
    }


@pytest.mark.parametrize(
    "text", ["", "\n", "drop\n", "drop\nxyz\n", "drop\n-1\n", "drop\n0x_1\n", f"drop\n{'f' * 5000}\n", "\0\n\0\n"]
)
def test_odd_statistics(text: str) -> None:
    """What is no number is left out."""
    assert parse_statistics(text) == {}


def test_without_statistics_there_is_the_table(tmp_path: Path) -> None:
    """A kernel without /proc/net/stat has entries and limit."""
    (write(tmp_path, FILES) / "proc/net/stat/nf_conntrack").unlink()
    assert set(readings(ConntrackCollector(tmp_path / "proc").collect())) == {
        "nf_conntrack_entries",
        "nf_conntrack_entries_limit",
    }


def test_a_machine_that_tracks_nothing_is_unavailable(tmp_path: Path) -> None:
    """Without the kernel's module the collector is unavailable, which is no failure."""
    with pytest.raises(Unavailable):
        list(ConntrackCollector(tmp_path).collect())


def test_this_machine() -> None:
    """On the real machine there are at most as many entries as the limit allows."""
    read = readings_or_reason(create(CollectorOptions(), CollectorContext()))
    if not isinstance(read, str):
        assert 0 <= read["nf_conntrack_entries"][()] <= read["nf_conntrack_entries_limit"][()]
