from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from modelhost_exporter.collector import Unavailable
from modelhost_exporter.linux.disks import DiskCounts, Disks, parse_diskstats
from tests.support.machine import FILES, write

SDA = "   8       0 sda 7 1 14 1500 9 2 18 2500 0 3500 4500"
ODD = [
    "   8      16 sdb 1 2 three 4 5 6 7 8 9 10 11",
    "   8      16 sdb 1 2 -3 4 5 6 7 8 9 10 11",
    "   8      16 sdb 1 2 3",
    "   8      16 sdb 1 2 3 4 5 6 7 8 9 10",
    "   8      16 sdb 1 2 nan 4 5 6 7 8 9 10 11",
    "   8      16 sdb 1 2 1_0 4 5 6 7 8 9 10 11",
    "   8      16 sdb 1 2 ² 4 5 6 7 8 9 10 11",
    f"   8      16 sdb 1 2 {'9' * 5000} 4 5 6 7 8 9 10 11",
    "\udcff\udcfe",
    "8",
    "\0",
]


def test_a_line() -> None:
    """Sectors are 512 bytes whatever the device's own are; times stay in milliseconds."""
    assert parse_diskstats(SDA) == {"sda": DiskCounts(7, 9, 14 * 512, 18 * 512, 1500, 2500, 3500, 4500)}


@pytest.mark.parametrize(
    "more", ["", " 1 2 3 4", " 1 2 3 4 5 6", " 1 2 3 4 5 6 7 8 9"], ids=["2.6", "4.18", "5.5", "new"]
)
def test_kernels_that_count_more(more: str) -> None:
    """Newer kernels add statistics at the end."""
    assert parse_diskstats(SDA + more) == parse_diskstats(SDA)


def test_a_partition_of_an_old_kernel() -> None:
    """Kernels before 2.6.25 have four statistics for a partition, and no times."""
    assert parse_diskstats("8 1 sda1 1 2 3 4") == {"sda1": DiskCounts(1, 3, 2 * 512, 4 * 512)}


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_line_costs_only_itself(odd: str) -> None:
    """The disks before and after the invalid line are exported."""
    assert set(parse_diskstats(f"{SDA}\n{odd}\n{SDA.replace('sda', 'sdc')}\n")) == {"sda", "sdc"}


def test_statistics_in_sysfs_alone(tmp_path: Path) -> None:
    """A kernel without /proc/diskstats may have them below /sys/block; one odd file costs only itself."""
    write(tmp_path, {"block/sda/stat": SDA.partition("sda ")[2], "block/sdb/stat": "odd", "block/sdc/size": "1"})
    disks = Disks(tmp_path / "proc", tmp_path).disk_io_counters(perdisk=True, nowrap=False)
    assert disks == parse_diskstats(SDA)


def test_no_statistics_at_all(tmp_path: Path) -> None:
    """Where the kernel has none, nothing has failed."""
    with pytest.raises(Unavailable):
        Disks(tmp_path, tmp_path).disk_io_counters(perdisk=True, nowrap=False)


def test_the_same_as_psutil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The values are those that psutil reads from the same file."""
    procfs = write(tmp_path, FILES) / "proc"
    (procfs / "diskstats").write_text(f"{SDA} 1 2 3 4\n")
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(procfs))
    ours = Disks(procfs, tmp_path).disk_io_counters(perdisk=True, nowrap=False)["sda"]
    theirs = psutil.disk_io_counters(perdisk=True, nowrap=False)["sda"]
    for name in set(ours._fields) - {"weighted_time"}:
        assert getattr(ours, name) == getattr(theirs, name)


def test_this_machine() -> None:
    """On the real machine the devices are psutil's."""
    if Path("/proc/diskstats").exists():
        theirs = psutil.disk_io_counters(perdisk=True, nowrap=False) or {}
        assert Disks(Path("/proc"), Path("/sys")).disk_io_counters(perdisk=True, nowrap=False).keys() == theirs.keys()


def machine(tmp_path: Path, *hardware: str, above: dict[str, str]) -> Disks:
    """Return the disks below a /sys/block with these, and with devices that are above others."""
    for name in hardware:
        write(tmp_path / "block" / name.replace("/", "!"), {"device/model": "x"})
    for name, below in above.items():
        (tmp_path / "block" / name / "slaves").mkdir(parents=True)
        if below:
            (tmp_path / "block" / name / "slaves" / below).symlink_to(f"../../{below}")
    return Disks(tmp_path, tmp_path)


def test_hardware_transfers_each_byte_once(tmp_path: Path) -> None:
    """LVM on LUKS on RAID, partitions, loop devices and RAM disks are not counted beside the disks."""
    above = {"md127": "sda1", "dm-0": "md127", "dm-1": "dm-0", "zd0": "", "loop0": "", "zram0": "", "nbd0": ""}
    subject = machine(tmp_path, "sda", "nvme0n1", "cciss/c0d0", above=above)
    names = ["sda", "sda1", "nvme0n1", "nvme0n1p1", "cciss/c0d0", *above]
    assert subject.carriers(names, names) == ["sda", "nvme0n1", "cciss/c0d0"]


def test_without_hardware_what_is_based_on_no_other_is_counted(tmp_path: Path) -> None:
    """A machine whose root is a network block device has the selected ones that are above no other."""
    subject = machine(tmp_path, above={"nbd0": "", "dm-0": "nbd0", "loop0": ""})
    assert subject.carriers(["nbd0", "dm-0", "loop0"], ["nbd0", "dm-0"]) == ["nbd0"]
