from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from modelhost_exporter.linux.mounts import Mount, Mounts, host_name
from tests.faults.mount_namespace import CANNOT_MOUNT
from tests.linux import disk_of_a_host
from tests.support.machine import write
from tests.support.programs import installed, missing

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw"
LINE_ENDS = ["\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]


def mounts(tmp_path: Path, *lines: bytes, of_init: Iterable[bytes] | None = None, rootfs: str = "") -> list[Mount]:
    """Return the mounts of these lines; by default process 1 has the same."""
    write(tmp_path, {"self/mountinfo": "", "1/mountinfo": ""})
    (tmp_path / "self/mountinfo").write_bytes(b"\n".join(lines) + b"\n")
    (tmp_path / "1/mountinfo").write_bytes(b"\n".join(lines if of_init is None else of_init) + b"\n")
    return Mounts(tmp_path, tmp_path, rootfs).disk_partitions(all=True)


def is_readonly(found: Iterable[Mount]) -> list[bool]:
    """Return whether each mount is read-only."""
    return ["ro" in mount.opts.split(",") for mount in found]


@pytest.mark.parametrize("tags", [b"", b"shared:1 ", b"shared:7 master:1 propagate_from:2 "])
def test_a_line(tags: bytes, tmp_path: Path) -> None:
    """Device, mount point, type and options are found behind any number of optional fields."""
    line = b"36 35 98:0 /mnt1 /mnt2 rw,noatime " + tags + b"- ext3 /dev/sda1 rw,errors=continue"
    assert mounts(tmp_path, line) == [Mount("/dev/sda1", "/mnt2", "ext3", "rw,noatime,errors=continue")]


def test_escapes(tmp_path: Path) -> None:
    r"""The kernel writes blank, tab, newline, backslash and hash as \ooo."""
    (mount,) = mounts(tmp_path, rb"9 1 0:9 / /mnt/a\040b\011c\012d\134e\043f rw - nfs4 server:/a\040b rw")
    assert mount[:2] == ("server:/a b", "/mnt/a b\tc\nd\\e#f")


@pytest.mark.parametrize(
    "odd", [b"", b"9 1 8:2", b"9 1 8:2 / /mnt rw - ext4", b"9 1 8:2 / /mnt rw ext4 a rw", b"- - -", b"\xff\xfe", b"\0"]
)
def test_an_odd_line_costs_only_itself(odd: bytes, tmp_path: Path) -> None:
    """The mounts before and after the invalid line are parsed."""
    found = mounts(tmp_path, ROOT.encode(), odd, b"23 1 8:3 / /data rw - xfs /dev/sdc rw")
    assert [mount.mountpoint for mount in found] == ["/", "/data"]


@pytest.mark.parametrize(
    ("of_mount", "of_file_system", "expected"),
    [
        (b"rw", b"rw", False),
        (b"ro,noatime", b"rw", True),
        (b"rw", b"ro", True),
        (b"rw", b"rw,errors=remount-ro", False),
        (b"rw", b"rw,errors=remount-ro,emergency_ro", True),
        (b"rw", b"rw,shutdown", True),
        (b"rw", b"rw,upperdir=/shutdown,x=ro", False),
    ],
)
def test_readonly(of_mount: bytes, of_file_system: bytes, expected: bool, tmp_path: Path) -> None:
    """A mount is read-only by an option of its own or of its file system, which also has the state after an error."""
    line = b"9 1 8:2 / /data " + of_mount + b" - ext4 /dev/sdb " + of_file_system
    assert is_readonly(mounts(tmp_path, line)) == [expected]


def test_the_mounts_of_another_namespace_count(tmp_path: Path) -> None:
    """Of a service whose mounts are all read-only, only those that are read-only for process 1 as well are."""
    own = [b"51 1 8:1 / / ro - ext4 /dev/a rw", b"52 51 8:2 / /boot ro - ext4 /dev/b rw"]
    of_init = [b"21 1 8:1 / / rw - ext4 /dev/a rw", b"22 21 8:2 / /boot ro - ext4 /dev/b rw"]
    assert is_readonly(mounts(tmp_path, *own, of_init=of_init)) == [False, True]


def test_below_a_rootfs_the_mounts_of_the_host_count(tmp_path: Path) -> None:
    """Below a read-only rootfs a mount is as the host has it, by device and by its name there."""
    own = [
        b"50 1 0:40 / / rw - overlay overlay rw",
        b"51 50 8:1 / /host ro - ext4 /dev/a rw",
        b"52 51 8:2 / /host/boot ro - ext4 /dev/b rw",
        b"53 51 8:9 / /host/data ro - ext4 /dev/c rw",
    ]
    of_init = [
        b"21 1 8:1 / / rw - ext4 /dev/a rw",
        b"22 21 8:2 / /boot ro - ext4 /dev/b rw",
        b"23 21 8:3 / /data ro - ext4 /dev/d rw",
    ]
    assert is_readonly(mounts(tmp_path, *own, of_init=of_init, rootfs="/host")) == [False, False, True, False]


@pytest.mark.parametrize("seen", ["of the container", "none"])
def test_below_a_rootfs_whose_process_1_is_hidden(seen: str, tmp_path: Path) -> None:
    """Where process 1 is that of the container, or hidden, the state of the file system counts."""
    own = [b"51 1 8:1 / /host ro - ext4 /dev/a rw", b"52 51 8:2 / /host/boot ro - ext4 /dev/b ro"]
    of_init = own if seen == "of the container" else []
    assert is_readonly(mounts(tmp_path, *own, of_init=of_init, rootfs="/host")) == [False, True]


def test_without_process_1(tmp_path: Path) -> None:
    """Where files of process 1 are missing (``ProtectProc=invisible``), the state of the file system counts."""
    write(tmp_path, {"self/mountinfo": "51 1 8:1 / / ro - ext4 /dev/a rw\n52 1 8:2 / /boot ro - ext4 /dev/b ro\n"})
    assert is_readonly(Mounts(tmp_path, tmp_path).disk_partitions(all=True)) == [False, True]


@pytest.mark.parametrize(
    ("mountpoint", "rootfs", "wanted"),
    [
        ("/", "", "/"),
        ("/home", "", "/home"),
        ("/host", "/host", "/"),
        ("/host/a/host/b", "/host", "/a/host/b"),
        ("/hostile", "/host", None),
        ("/", "/host", None),
        ("C:\\", "", "C:\\"),
    ],
)
def test_host_name(mountpoint: str, rootfs: str, wanted: str | None) -> None:
    """Only a leading prefix of whole path components is removed; without a prefix every name is unchanged."""
    assert host_name(mountpoint, rootfs) == wanted


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_a_real_disk(tmp_path: Path) -> None:
    """A real disk is read-only if the host has made it so or it has failed, for the host, a service and a container."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(8 << 20)
    subprocess.run([installed("mkfs.ext4"), "-q", image], check=True)
    command = [installed("unshare"), "--pid", "--mount-proc", "--fork", sys.executable, disk_of_a_host.__file__]
    done = subprocess.run(
        [*command, str(tmp_path), str(image)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    if CANNOT_MOUNT in done.stdout or "unshare failed" in done.stderr:
        missing("mounting needs root and loop devices")
    states = ("writable 0.0", "bind 1.0", "error 1.0", "shutdown 1.0")
    assert done.stdout.splitlines() == [f"{state} {state[-3:]} {state[-3:]}" for state in states], done.stderr


@pytest.mark.parametrize("character", LINE_ENDS)
def test_a_name_with_what_python_takes_for_a_line_end(character: str, tmp_path: Path) -> None:
    """Lines end with a newline and fields with a blank, whatever other characters a name contains."""
    name = f"/mnt/a{character}b"
    assert [mount.mountpoint for mount in mounts(tmp_path, f"9 1 8:2 / {name} rw - ext4 /dev/sdb rw".encode())] == [
        name
    ]


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    """Undecodable bytes come back as Python's file names have them."""
    (mount,) = mounts(tmp_path, b"9 1 8:2 / /mnt/caf\xe9 rw - ext4 /dev/sdb rw")
    assert os.fsencode(mount.mountpoint) == b"/mnt/caf\xe9"


def test_the_root_s_device(tmp_path: Path) -> None:
    """/dev/root is replaced by the device's own name where that exists, and 'none' is no device."""
    link = tmp_path / "dev/block/8:1"
    link.parent.mkdir(parents=True)
    lines = b"22 1 8:1 / / rw - ext4 /dev/root rw", b"23 22 0:9 / /none rw - tmpfs none rw"
    assert [mount.device for mount in mounts(tmp_path, *lines)] == ["/dev/root", ""]
    link.symlink_to("../../devices/virtual/mem/null")
    assert [mount.device for mount in mounts(tmp_path, *lines)] == ["/dev/null", ""]


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_the_same_as_psutil() -> None:
    """On the real machine the mounts are psutil's, in the same order, with the same options in another order."""
    ours = Mounts(Path("/proc"), Path("/sys")).disk_partitions(all=True)
    theirs = psutil.disk_partitions(all=True)
    assert [tuple(mount[:3]) for mount in ours] == [tuple(mount[:3]) for mount in theirs]
    assert [others(mount.opts) for mount in ours] == [others(mount.opts) for mount in theirs]


def others(options: str) -> set[str]:
    """Return the options except the first, which is that of the host with us."""
    return set(options.split(",")[1:])
