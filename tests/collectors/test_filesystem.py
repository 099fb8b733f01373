from __future__ import annotations

import errno
import os
import re
import sys
import threading
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, NoReturn

import pytest

from modelhost_exporter.collector import CollectorContext, Unavailable
from modelhost_exporter.collectors.filesystem import (
    FilesystemCollector,
    FilesystemOptions,
    Space,
    create,
    space,
)
from modelhost_exporter.config.duration import Seconds
from modelhost_exporter.config.name_filter import NameFilter
from modelhost_exporter.metrics.exposition import TEXT
from tests.support.machine import Partition, psutil_double
from tests.support.programs import wait_until
from tests.support.readings import readings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.readings import Readings

SPACE = Space(size=1000, available=400, free=500, files=10, files_free=5)
SPACE_NAMES = {
    "filesystem_size_bytes",
    "filesystem_available_bytes",
    "filesystem_free_bytes",
    "filesystem_files",
    "filesystem_files_free",
}
OTHER_NAMES = {"filesystem_readonly", "filesystem_device_error", "filesystem_updated_timestamp_seconds"}


def answer(_mount: str) -> Space:
    """Return the same values for any mount."""
    return SPACE


def measured(
    *partitions: Partition,
    options: FilesystemOptions | None = None,
    rootfs: str = "/",
    query: Callable[[str], Space] = answer,
) -> Readings:
    """Return what is measured of these mounts."""
    source = psutil_double(disk_partitions=lambda **_: list(partitions))
    return readings(
        FilesystemCollector(options or FilesystemOptions(), Path(rootfs), source, query, lambda: 1.8e9).collect()
    )


def mountpoints(read: Readings) -> list[str]:
    """Return the measured mount points, in the order of the page."""
    return [mountpoint for _, mountpoint, _ in read["filesystem_device_error"]]


def test_what_is_measured() -> None:
    """Size, space, inodes, mode and error of a mount, labelled with its device, mount point and type."""
    labels = ("/dev/sda1", "/", "ext4")
    assert measured(Partition()) == {
        "filesystem_size_bytes": {labels: 1000},
        "filesystem_available_bytes": {labels: 400},
        "filesystem_free_bytes": {labels: 500},
        "filesystem_files": {labels: 10},
        "filesystem_files_free": {labels: 5},
        "filesystem_readonly": {labels: 0},
        "filesystem_device_error": {labels: 0},
        "filesystem_updated_timestamp_seconds": {labels: 1.8e9},
    }


@pytest.mark.parametrize(
    "fstype",
    ["proc", "sysfs", "tmpfs", "devtmpfs", "cgroup", "cgroup2", "overlay", "squashfs", "nsfs", "fuse.lxcfs", "fusectl"],
)
def test_virtual_file_systems_are_left_out_by_default(fstype: str) -> None:
    """File systems without storage of their own are left out."""
    read = measured(Partition(), Partition(mountpoint="/x", fstype=fstype))
    assert mountpoints(read) == ["/"]


@pytest.mark.parametrize("fstype", ["ext4", "xfs", "btrfs", "zfs", "nfs4", "cifs", "vfat", "apfs", "fuse.sshfs", "9p"])
def test_real_file_systems_are_measured_by_default(fstype: str) -> None:
    """File systems that hold data are measured, local and remote ones."""
    assert mountpoints(measured(Partition(mountpoint="/data", fstype=fstype))) == ["/data"]


@pytest.mark.parametrize(
    "mountpoint",
    [
        *("/dev", "/proc", "/sys/firmware", "/run/user/1000", "/run/docker/netns/x", "/etc/hosts", "/etc/resolv.conf"),
        *("/var/lib/docker/overlay2/x/merged", "/var/lib/kubelet/pods/x/volumes/y", "/var/lib/containerd/x"),
        "/System/Volumes/VM",
    ],
)
def test_mounts_of_containers_and_the_kernel_are_left_out_by_default(mountpoint: str) -> None:
    """Mounts of containers and of the kernel are left out, whatever their type."""
    assert mountpoints(measured(Partition(), Partition(mountpoint=mountpoint))) == ["/"]


@pytest.mark.parametrize(
    "mountpoint", ["/boot/efi", "/home", "/developer", "/run/media/disk", "/var/lib/docker", "/srv"]
)
def test_other_mounts_are_measured_by_default(mountpoint: str) -> None:
    """Excludes match whole path components: a similar name is measured."""
    assert mountpoints(measured(Partition(mountpoint=mountpoint))) == [mountpoint]


def test_include_picks_what_the_default_leaves_out() -> None:
    """A type and a mount point that are included by name are measured, and nothing else."""
    options = FilesystemOptions(
        mountpoints=NameFilter(include=re.compile("/dev/shm")), fstypes=NameFilter(include=re.compile("tmpfs"))
    )
    partitions = (Partition(), Partition("tmpfs", "/dev/shm", "tmpfs"), Partition("tmpfs", "/tmp", "tmpfs"))
    assert mountpoints(measured(*partitions, options=options)) == ["/dev/shm"]


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ((), ["/"]),
        ((Partition("tmpfs", "/dev/shm", "tmpfs"), Partition("/dev/a", "/etc/hosts", "ext4")), ["/"]),
        ((Partition("/dev/b", "/workspace", "xfs"),), ["/workspace"]),
    ],
    ids=["alone", "with a container's usual mounts", "beside a disk"],
)
def test_the_root_of_a_container(others: tuple[Partition, ...], expected: list[str]) -> None:
    """An overlay at / is measured where nothing else is."""
    assert mountpoints(measured(Partition("overlay", "/", "overlay"), *others)) == expected


def test_an_overlay_that_is_left_out_by_the_configuration() -> None:
    """With file system types that were configured, an overlay is measured only if they select it."""
    options = FilesystemOptions(fstypes=NameFilter(include=re.compile("ext4")))
    with pytest.raises(Unavailable, match="no file system"):
        measured(Partition("overlay", "/", "overlay"), options=options)


def test_nothing_selected_is_unavailable() -> None:
    """In a container with virtual mounts only, the collector is unavailable, which is no failure."""
    with pytest.raises(Unavailable, match="no file system"):
        measured(Partition("tmpfs", "/", "tmpfs"))


def test_below_a_rootfs_the_host_s_names_count() -> None:
    """In a container the host's mounts lose the prefix, and the container's own mounts are left out."""
    asked: list[str] = []

    def query(mount: str) -> Space:
        asked.append(mount)
        return SPACE

    partitions = [
        Partition(mountpoint=name) for name in ("/", "/host", "/host/home", "/hostile", "/data", "/host/proc")
    ]
    assert mountpoints(measured(*partitions, rootfs="/host", query=query)) == ["/", "/home"]
    assert asked == ["/host", "/host/home"]


def test_a_drive_of_windows() -> None:
    """On Windows, where the default root is a backslash, drives are measured under their letters."""
    source = psutil_double(disk_partitions=lambda **_: [Partition("C:\\", "C:\\", "NTFS", "rw,fixed")])
    read = readings(FilesystemCollector(FilesystemOptions(), PureWindowsPath("/"), source, answer).collect())
    assert read["filesystem_size_bytes"] == {("C:\\", "C:\\", "NTFS"): 1000}


def test_of_mounts_on_top_of_one_another_the_last_counts() -> None:
    """Of several mounts at one point only the last is reachable, and only that one is exported."""
    read = measured(Partition("/dev/a", "/data", "ext4"), Partition("/dev/b", "/data", "xfs", "ro"))
    labels = ("/dev/b", "/data", "xfs")
    assert {name: set(series) for name, series in read.items()} == {name: {labels} for name in read}
    assert read["filesystem_readonly"] == {labels: 1}


def test_a_mount_under_a_virtual_one_is_gone() -> None:
    """A disk below a tmpfs cannot be queried any more, and must not have the tmpfs's numbers."""
    covered = (Partition("/dev/a", "/data", "ext4"), Partition("tmpfs", "/data", "tmpfs"))
    assert mountpoints(measured(Partition(), *covered)) == ["/"]


def test_a_name_that_is_not_utf8_can_be_written() -> None:
    """A mount point of undecodable bytes is queried unchanged, and the page can be rendered."""
    name = os.fsdecode(b"/mnt/caf\xe9")
    asked: list[str] = []

    def query(mount: str) -> Space:
        asked.append(mount)
        return SPACE

    source = psutil_double(disk_partitions=lambda **_: [Partition(mountpoint=name)])
    page = TEXT.render(list(FilesystemCollector(FilesystemOptions(), source=source, query=query).collect())).decode()
    assert asked == [name]
    assert 'mountpoint="/mnt/caf' in page


def test_a_file_system_without_inodes_has_no_files() -> None:
    """Btrfs and vfat create inodes as needed and report 0: absent."""
    read = measured(Partition(fstype="btrfs"), query=lambda _: Space(1000, 400, 500, None, None))
    assert set(read) == {*SPACE_NAMES, *OTHER_NAMES} - {
        "filesystem_files",
        "filesystem_files_free",
    }


@pytest.mark.parametrize(
    ("opts", "readonly"), [("ro,noatime", 1), ("rw,errors=remount-ro", 0), ("noatime,ro", 1), ("", 0)]
)
def test_readonly(opts: str, readonly: int) -> None:
    """Read-only is the option 'ro' as a word, not a part of another."""
    assert list(measured(Partition(opts=opts))["filesystem_readonly"].values()) == [readonly]


def refuse(_mount: str) -> NoReturn:
    """Raise an error, as a broken disk does."""
    raise OSError(errno.EIO, "Input/output error")


def test_a_refusal_is_a_device_error() -> None:
    """A mount that returns an error has a device error and no sizes; its read-only state is still exported."""
    read = measured(Partition(opts="ro"), query=refuse)
    labels = ("/dev/sda1", "/", "ext4")
    assert read == {"filesystem_readonly": {labels: 1}, "filesystem_device_error": {labels: 1}}


def test_a_folder_without_permission_has_no_error(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """A mount below a folder that the exporter may not enter is said once, and has neither space nor an error."""
    locked = str(tmp_path)

    def query(mount: str) -> Space:
        if mount == locked:
            raise PermissionError(errno.EACCES, "Permission denied", mount)
        return SPACE

    partitions = [Partition(), Partition("/dev/sdb1", locked)]
    source = psutil_double(disk_partitions=lambda **_: partitions)
    collector = FilesystemCollector(FilesystemOptions(), source=source, query=query)
    for _ in range(3):
        read = readings(collector.collect())
        assert mountpoints(read) == ["/"]
        assert {mount for _, mount, _ in read["filesystem_size_bytes"]} == {"/"}
        assert {mount for _, mount, _ in read["filesystem_readonly"]} == {"/", locked}
    (record,) = caplog.records
    assert "permission denied" in str(vars(record)["fields"])


@pytest.fixture
def hang() -> Iterator[threading.Event]:
    """Hang in calls on a mount until this is set, at the latest at the end of the test."""
    event = threading.Event()
    yield event
    event.set()


def test_a_stuck_mount_costs_the_others_nothing(hang: threading.Event) -> None:
    """A mount that hangs has an error, the others are measured, and once its call returns it is measured again."""
    asked: list[str] = []
    returned = threading.Event()

    def query(mount: str) -> Space:
        asked.append(mount)
        if mount == "/nfs" and not hang.is_set():
            hang.wait()
            returned.set()
        return SPACE

    partitions = [Partition(mountpoint=name) for name in ("/", "/nfs", "/home")]
    source = psutil_double(disk_partitions=lambda **_: partitions)
    collector = FilesystemCollector(FilesystemOptions(timeout=Seconds(0.2)), source=source, query=query)
    for _ in range(3):
        read = readings(collector.collect())
        errors = {mount: value for (_, mount, _), value in read["filesystem_device_error"].items()}
        assert errors == {"/": 0, "/nfs": 1, "/home": 0}
        assert {mount for _, mount, _ in read["filesystem_size_bytes"]} == {"/", "/home"}
    assert asked.count("/nfs") == 1
    hang.set()
    assert returned.wait(20)
    wait_until(
        lambda: set(readings(collector.collect())["filesystem_device_error"].values()) == {0}, "the mount is read again"
    )


@pytest.mark.parametrize(
    ("odd", "absent"),
    [
        (SPACE._replace(available=2**64 - 4096), {"filesystem_available_bytes"}),
        (SPACE._replace(free=1001), {"filesystem_free_bytes"}),
        (SPACE._replace(available=-1), {"filesystem_available_bytes"}),
        (SPACE._replace(files_free=11), {"filesystem_files_free"}),
    ],
)
def test_an_odd_number_of_a_file_system(odd: Space, absent: set[str]) -> None:
    """Impossible values (more free than total, negative) are absent; the other numbers are present."""
    assert SPACE_NAMES - set(measured(Partition(), query=lambda _: odd)) == absent


def test_another_device_at_the_same_place(hang: threading.Event) -> None:
    """The last values of a slow file system are not used for another one mounted in its place."""

    def query(_mount: str) -> Space:
        if len(partitions) > 1:
            hang.wait(20)
        return SPACE

    partitions = [Partition("/dev/a", "/data")]
    source = psutil_double(disk_partitions=lambda **_: partitions[-1:])
    collector = FilesystemCollector(FilesystemOptions(timeout=Seconds(0.2)), source=source, query=query)
    assert set(readings(collector.collect())["filesystem_size_bytes"]) == {("/dev/a", "/data", "ext4")}
    partitions.append(Partition("/dev/b", "/data"))
    read = readings(collector.collect())
    assert "filesystem_size_bytes" not in read
    assert read["filesystem_device_error"] == {("/dev/b", "/data", "ext4"): 1}


def test_space_is_what_statvfs_says(tmp_path: Path) -> None:
    """Blocks are counted in fragments, and space for users apart from the space that root may still use."""
    before = os.statvfs(tmp_path)
    measured_space = space(str(tmp_path))
    assert measured_space.size == before.f_blocks * before.f_frsize
    unit, slack = before.f_frsize, 256 * 2**20  # what other programs write meanwhile
    assert measured_space.free == pytest.approx(before.f_bfree * unit, abs=slack)
    assert measured_space.available == pytest.approx(before.f_bavail * unit, abs=slack)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_real_file_system_without_inodes() -> None:
    """The kernel's own /proc has no inodes to count."""
    assert (space("/proc").files, space("/proc").files_free) == (None, None)


def test_a_mount_point_that_is_gone_is_an_os_error(tmp_path: Path) -> None:
    """A folder that is no longer mounted raises FileNotFoundError, which the collector handles."""
    with pytest.raises(FileNotFoundError):
        space(str(tmp_path / "gone"))


def test_this_machine() -> None:
    """On the real machine every measured mount has room within its size; with every type included, / is among them."""
    options = FilesystemOptions(fstypes=NameFilter(), mountpoints=NameFilter(include=re.compile("/")))
    read = readings(create(options, CollectorContext()).collect())
    ((labels, size),) = read["filesystem_size_bytes"].items()
    assert labels[1] == "/"
    assert 0 <= read["filesystem_available_bytes"][labels] <= read["filesystem_free_bytes"][labels] <= size
    assert read["filesystem_device_error"] == {labels: 0}
