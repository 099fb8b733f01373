from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.collector import CollectorContext, CollectorOptions, Unavailable
from modelhost_exporter.collectors.processes import ProcessesCollector, create
from tests.support.machine import FILES, write
from tests.support.readings import readings

if TYPE_CHECKING:
    from pathlib import Path


def test_processes_by_state(tmp_path: Path) -> None:
    """Running and blocked are the kernel's own counts, not the processes started since boot."""
    read = readings(ProcessesCollector(write(tmp_path, FILES) / "proc").collect())
    assert read == {"procs_running": {(): 4}, "procs_blocked": {(): 1}}


def test_a_count_that_is_missing_is_absent(tmp_path: Path) -> None:
    """A kernel that lacks one of them (gVisor) has no series for it."""
    read = readings(ProcessesCollector(write(tmp_path, {"stat": "cpu 1\nprocs_running 2\n"})).collect())
    assert read == {"procs_running": {(): 2}}


def test_without_stat_it_is_unavailable(tmp_path: Path) -> None:
    """On other systems than Linux the collector is unavailable, which is no failure."""
    with pytest.raises(Unavailable):
        list(ProcessesCollector(tmp_path).collect())


def test_this_machine() -> None:
    """On the real machine at least this test runs."""
    assert readings(create(CollectorOptions(), CollectorContext()).collect())["procs_running"][()] >= 1
