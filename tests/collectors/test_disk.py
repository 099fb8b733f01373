from __future__ import annotations

import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from modelhost_exporter.collector import CollectorContext, Unavailable
from modelhost_exporter.collectors.disk import DiskCollector, DiskOptions, create
from modelhost_exporter.config.name_filter import NameFilter
from modelhost_exporter.linux.disks import Disks
from tests.support.machine import FILES, DiskCounts, psutil_double, write
from tests.support.readings import readings, readings_or_reason

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT = DiskOptions().devices


def with_disks(*names: str, counts: Any = None) -> SimpleNamespace:
    """Return a psutil that has these disks."""
    return psutil_double(disk_io_counters=lambda **_: {name: counts or DiskCounts() for name in names})


def test_units(tmp_path: Path) -> None:
    """Bytes are bytes, operations are counted, and milliseconds become seconds."""
    read = readings(DiskCollector(DEFAULT, Disks(write(tmp_path, FILES) / "proc", tmp_path / "sys")).collect())
    assert {name: value["sda",] for name, value in read.items() if not name.startswith("host_")} == {
        "disk_read_bytes_total": 7168,
        "disk_written_bytes_total": 9216,
        "disk_reads_completed_total": 7,
        "disk_writes_completed_total": 9,
        "disk_read_time_seconds_total": 1.5,
        "disk_write_time_seconds_total": 2.5,
        "disk_io_time_seconds_total": 3.5,
        "disk_io_time_weighted_seconds_total": 4.5,
    }


def test_bytes_of_the_host() -> None:
    """Bytes of the physical disks are summed from 0 on, those that are not selected included."""
    counts = {name: DiskCounts() for name in ("sda", "sdb", "dm-0")}
    source = psutil_double(disk_io_counters=lambda **_: counts)
    subject = DiskCollector(NameFilter(include=re.compile("sda")), source, lambda _names, _selected: ["sda", "sdb"])
    read = readings(subject.collect())
    assert (read["host_disk_read_bytes_total"], read["host_disk_written_bytes_total"]) == ({(): 0}, {(): 0})
    counts.update({name: DiskCounts(read_bytes=7178, write_bytes=9316) for name in counts})
    read = readings(subject.collect())
    assert (read["host_disk_read_bytes_total"], read["host_disk_written_bytes_total"]) == ({(): 20}, {(): 200})


@pytest.mark.parametrize(
    "name",
    ["sda", "vda", "xvda", "hdb", "sdaa", "nvme0n1", "nvme1n12", "mmcblk0", "dm-0", "md0", "md127", "nbd0", "disk0"],
)
def test_disks_are_measured_by_default(name: str) -> None:
    """Whole disks, logical volumes and arrays are measured."""
    assert ((name,)) in readings(DiskCollector(DEFAULT, with_disks(name)).collect())["disk_read_bytes_total"]


@pytest.mark.parametrize(
    "name",
    [
        "sda1",
        "vda15",
        "xvda1",
        "hdb2",
        "nvme0n1p1",
        "nvme1n12p128",
        "mmcblk0p2",
        "loop0",
        "zram0",
        "ram15",
        "sr0",
        "fd0",
    ],
)
def test_parts_and_virtual_disks_are_left_out_by_default(name: str) -> None:
    """Partitions (their disk has their traffic too), loop devices, RAM disks and drives for media are left out."""
    read = readings(DiskCollector(DEFAULT, with_disks("sda", name)).collect())
    assert set(read["disk_read_bytes_total"]) == {("sda",)}


def test_include_picks_what_the_default_leaves_out() -> None:
    """Partitions that are included by name are measured, and nothing else."""
    chosen = NameFilter(include=re.compile(r"sda\d"))
    read = readings(DiskCollector(chosen, with_disks("sda", "sda1", "sdb")).collect())
    assert set(read["disk_read_bytes_total"]) == {("sda1",)}


def test_psutil_has_no_weighted_time() -> None:
    """On other systems than Linux weighted time is absent, and the other counters are present."""
    read = readings(DiskCollector(DEFAULT, with_disks("sda")).collect())
    assert "disk_io_time_weighted_seconds_total" not in read
    assert read["disk_reads_completed_total"] == {("sda",): 7}


def test_without_busy_time_the_io_time_is_absent() -> None:
    """On macOS and Windows there is no busy_time: absent, not zero."""
    counts = SimpleNamespace(read_count=1, write_count=2, read_bytes=3, write_bytes=4, read_time=5, write_time=6)
    read = readings(DiskCollector(DEFAULT, with_disks("disk0", counts=counts)).collect())
    assert "disk_io_time_seconds_total" not in read
    assert read["disk_write_time_seconds_total"] == {("disk0",): 0.006}


def not_implemented(**_: bool) -> NoReturn:
    """Raise the error of psutil on a Linux without diskstats and /sys/block (gVisor)."""
    raise NotImplementedError


@pytest.mark.parametrize(
    "disk_io_counters",
    [
        lambda **_: None,
        lambda **_: {},
        lambda **_: {"loop0": DiskCounts()},
        not_implemented,
    ],
    ids=["no answer", "no disk", "none selected", "not implemented"],
)
def test_a_machine_without_disks_is_unavailable(disk_io_counters: Any) -> None:
    """Without a disk to measure (a container, a diskless machine) the collector is unavailable, which is no failure."""
    with pytest.raises(Unavailable):
        list(DiskCollector(DEFAULT, psutil_double(disk_io_counters=disk_io_counters)).collect())


def test_the_weighted_time_is_the_eleventh_statistic(tmp_path: Path) -> None:
    """Weighted milliseconds become seconds; the short lines of kernels before 2.6.25 have none."""
    text = "   8 0 sda 1 2 3 4 5 6 7 8 9 10 11\n   8 1 sda1 1 2 3 4\n\n"
    text += "259 0 nvme0n1 1 2 3 4 5 6 7 8 9 10 1100 12 13 14 15 16 17\n"
    (tmp_path / "diskstats").write_text(text)
    read = readings(DiskCollector(NameFilter(), Disks(tmp_path, tmp_path / "sys")).collect())
    assert read["disk_io_time_weighted_seconds_total"] == {("sda",): 0.011, ("nvme0n1",): 1.1}
    assert ("sda1",) in read["disk_reads_completed_total"]


def test_this_machine() -> None:
    """On the real machine each disk's counters are finite and its busy time is no longer than the machine is up."""
    read = readings_or_reason(create(DiskOptions(), CollectorContext()))
    if isinstance(read, str):
        assert "disk" in read
        return
    assert all(value >= 0 for series in read.values() for value in series.values())
    assert set(read["disk_read_bytes_total"]) == set(read["disk_io_time_weighted_seconds_total"])
