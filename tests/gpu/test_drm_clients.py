"""GPU memory of processes by their open files, in copies of what drivers write."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelhost_exporter.gpu.sysfs.drm_clients import DrmClients, DrmFile, parse_fdinfo
from tests.gpu.conftest import Clock
from tests.support.machine import write

ADDRESS = "0000:03:00.0"
XE = f"""pos:\t0
flags:\t0100002
mnt_id:\t26
ino:\t608
drm-driver:\txe
drm-client-id:\t7
drm-pdev:\t{ADDRESS}
drm-total-system:\t0
drm-total-gtt:\t192 KiB
drm-resident-gtt:\t192 KiB
drm-total-vram0:\t9 MiB
drm-shared-vram0:\t1 MiB
drm-resident-vram0:\t8 MiB
drm-resident-vram1:\t64 KiB
drm-cycles-rcs:\t28257900
drm-total-cycles-rcs:\t7655183225
"""
AMDGPU = f"""drm-driver:\tamdgpu
drm-client-id:\t3
drm-pdev:\t{ADDRESS}
drm-memory-vram:\t2048 KiB
drm-memory-gtt: \t512 KiB
drm-engine-gfx:\t1234 ns
"""
I915 = f"""drm-driver:\ti915
drm-client-id:\t5
drm-pdev:\t{ADDRESS}
drm-total-local0:\t4096
drm-resident-local0:\t4096
drm-resident-system0:\t1 MiB
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (XE, DrmFile(ADDRESS, "7", (8 << 20) + (64 << 10))),
        (AMDGPU, DrmFile(ADDRESS, "3", 2 << 20)),
        (I915, DrmFile(ADDRESS, "5", 4096)),
        (f"drm-client-id: 1\ndrm-pdev: {ADDRESS}\ndrm-resident-vram0: many MiB\n", DrmFile(ADDRESS, "1", 0)),
        (f"drm-client-id: 1\ndrm-pdev: {ADDRESS}\ndrm-resident-vram0: 5 GB\n", DrmFile(ADDRESS, "1", 0)),
        ("pos:\t0\nflags:\t02\n", None),
        (f"drm-pdev: {ADDRESS}\n", None),
        ("", None),
    ],
)
def test_the_files_of_drivers(text: str, expected: DrmFile | None) -> None:
    """Memory of the card itself counts, in any unit; that of the host does not."""
    assert parse_fdinfo(text) == expected


@given(st.text(alphabet="drm-resident-vram0:pdevclint \n\t0123456789KiMB", max_size=400))
def test_no_text_is_an_error(text: str) -> None:
    """Whatever a driver writes is parsed or skipped."""
    parsed = parse_fdinfo(text)
    assert parsed is None or parsed.bytes >= 0


def process(procfs: Path, pid: int, *fdinfo: str) -> None:
    """Write a process that has these GPU files open, and others."""
    write(procfs / str(pid), {f"fdinfo/{number}": text for number, text in enumerate(("pos:\t0\n", *fdinfo))})
    (procfs / str(pid) / "fd").mkdir()
    (procfs / str(pid) / "fd/0").symlink_to("/dev/null")
    for number in range(1, len(fdinfo) + 1):
        (procfs / str(pid) / f"fd/{number}").symlink_to("/dev/dri/renderD128")


def test_memory_is_by_process_and_a_client_counts_once(tmp_path: Path) -> None:
    """A client that a child has inherited is one; another GPU's memory is not this one's."""
    write(tmp_path, {"2/comm": "kthreadd\n"})
    (tmp_path / "2/fd").mkdir()
    process(tmp_path, 100, XE, XE, XE.replace("client-id:\t7", "client-id:\t8"))
    process(tmp_path, 101, XE)
    process(tmp_path, 102, XE.replace("client-id:\t7", "client-id:\t9").replace(ADDRESS, "0000:07:00.0"))
    clients = DrmClients(tmp_path, Clock())
    each = (8 << 20) + (64 << 10)
    assert clients.memory(ADDRESS) == ({100: 2 * each}, True)
    assert clients.memory("0000:07:00.0") == ({102: each}, True)
    assert clients.memory("0000:09:00.0") == ({}, True)


def test_processes_are_searched_again_and_their_memory_is_read_each_time(tmp_path: Path) -> None:
    """A walk over all open files takes its time; reading the files that were found does not."""
    clock = Clock()
    write(tmp_path, {"2/comm": "kthreadd\n"})
    (tmp_path / "2/fd").mkdir()
    process(tmp_path, 100, I915)
    clients = DrmClients(tmp_path, clock)
    assert clients.memory(ADDRESS).by_pid == {100: 4096}
    write(tmp_path, {"100/fdinfo/1": I915.replace("4096", "8192")})
    process(tmp_path, 101, I915.replace("client-id:\t5", "client-id:\t6"))
    assert clients.memory(ADDRESS).by_pid == {100: 8192}
    clock.seconds += 15
    assert clients.memory(ADDRESS).by_pid == {100: 8192, 101: 4096}
    (tmp_path / "100/fdinfo/1").unlink()
    assert clients.memory(ADDRESS).by_pid == {101: 4096}


def test_what_may_not_be_seen_is_not_complete(tmp_path: Path) -> None:
    """In a PID namespace of its own, with processes of others, or without /proc the sum is not known."""
    assert DrmClients(tmp_path / "none", Clock()).memory(ADDRESS) == ({}, False)
    write(tmp_path, {"2/comm": "python\n"})
    (tmp_path / "2/fd").mkdir()
    process(tmp_path, 100, XE)
    assert not DrmClients(tmp_path, Clock()).memory(ADDRESS).is_complete
    write(tmp_path, {"2/comm": "kthreadd\n"})
    assert DrmClients(tmp_path, Clock()).memory(ADDRESS).is_complete
    (tmp_path / "101").mkdir()
    (tmp_path / "101/fd").write_text("")  # cannot be listed, as a folder that is another user's
    assert not DrmClients(tmp_path, Clock()).memory(ADDRESS).is_complete


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="this system has no /proc")
def test_this_machines_processes_can_be_searched() -> None:
    """The real /proc, with processes that end meanwhile."""
    assert DrmClients(Path("/proc"), Clock()).memory("ffff:ff:1f.7").by_pid == {}
