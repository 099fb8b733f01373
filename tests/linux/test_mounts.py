from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil
import pytest

from modelhost_exporter.linux.mounts import Mount, Mounts
from tests.support.machine import write

ROOT = "/dev/sda1 / ext4 rw,relatime 0 0"
LINE_ENDS = ["\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]


def mounts(tmp_path: Path, *lines: bytes) -> list[Mount]:
    """Return the mounts of these lines."""
    write(tmp_path, {"self/mounts": ""})
    (tmp_path / "self/mounts").write_bytes(b"\n".join(lines) + b"\n")
    return Mounts(tmp_path, tmp_path).disk_partitions(all=True)


def test_a_line(tmp_path: Path) -> None:
    """Device, mount point, type and options are the first four fields."""
    assert mounts(tmp_path, ROOT.encode()) == [Mount("/dev/sda1", "/", "ext4", "rw,relatime")]


def test_escapes(tmp_path: Path) -> None:
    r"""The kernel writes blank, tab, newline, backslash and hash as \ooo."""
    (mount,) = mounts(tmp_path, rb"server:/a\040b /mnt/a\040b\011c\012d\134e\043f nfs4 rw 0 0")
    assert mount[:2] == ("server:/a b", "/mnt/a b\tc\nd\\e#f")


@pytest.mark.parametrize("odd", [b"", b"/dev/sdb", b"/dev/sdb /mnt", b"/dev/sdb /mnt ext4", b"\xff\xfe", b"\0"])
def test_an_odd_line_costs_only_itself(odd: bytes, tmp_path: Path) -> None:
    """The mounts before and after the invalid line are parsed."""
    found = mounts(tmp_path, ROOT.encode(), odd, b"/dev/sdc /data xfs rw 0 0")
    assert [mount.mountpoint for mount in found] == ["/", "/data"]


@pytest.mark.parametrize("character", LINE_ENDS)
def test_a_name_with_what_python_takes_for_a_line_end(character: str, tmp_path: Path) -> None:
    """Lines end with a newline and fields with a blank, whatever other characters a name contains."""
    name = f"/mnt/a{character}b"
    assert [mount.mountpoint for mount in mounts(tmp_path, f"/dev/sdb {name} ext4 rw 0 0".encode())] == [name]


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    """Undecodable bytes come back as Python's file names have them."""
    (mount,) = mounts(tmp_path, b"/dev/sdb /mnt/caf\xe9 ext4 rw 0 0")
    assert os.fsencode(mount.mountpoint) == b"/mnt/caf\xe9"


def test_the_root_s_device(tmp_path: Path) -> None:
    """/dev/root is replaced by the device's own name where that exists, and 'none' is no device."""
    number = Path("/").stat().st_dev
    link = tmp_path / f"dev/block/{os.major(number)}:{os.minor(number)}"
    link.parent.mkdir(parents=True)
    found = mounts(tmp_path, b"/dev/root / ext4 rw 0 0", b"none /none tmpfs rw 0 0")
    assert [mount.device for mount in found] == ["/dev/root", ""]
    link.symlink_to("../../devices/virtual/mem/null")
    found = mounts(tmp_path, b"/dev/root / ext4 rw 0 0")
    assert [mount.device for mount in found] == ["/dev/null"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_the_same_as_psutil() -> None:
    """On the real machine the mounts are psutil's, in the same order."""
    ours = Mounts(Path("/proc"), Path("/sys")).disk_partitions(all=True)
    assert [tuple(mount) for mount in ours] == [tuple(mount) for mount in psutil.disk_partitions(all=True)]
