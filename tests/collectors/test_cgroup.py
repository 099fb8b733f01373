from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.collector import CollectorContext, CollectorOptions, Paths, Unavailable
from modelhost_exporter.collectors.cgroup import CgroupCollector, create
from modelhost_exporter.linux.cgroups import Cgroups, own_path
from tests.support.machine import write
from tests.support.readings import readings, readings_or_reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.readings import Readings


def measured(root: Path, own: str, files: Mapping[str, str], mount: str = "sys/fs/cgroup") -> Readings:
    """Return what is measured in the cgroup that /proc/self/cgroup calls ``own``; files lie below the mount."""
    write(root, {"proc/self/cgroup": own, f"{mount}/cgroup.controllers": "cpu memory\n"})
    write(root / mount, files)
    return readings(CgroupCollector(root / "proc", root / "sys").collect())


def limits(*, memory: str = "max", cpu: str = "max 100000", used: int = 0, throttled: int = 0) -> dict[str, str]:
    """Return the files of one cgroup."""
    return {
        "memory.max": f"{memory}\n",
        "memory.current": f"{used}\n",
        "cpu.max": f"{cpu}\n",
        "cpu.stat": f"usage_usec 1\nthrottled_usec {throttled}\n",
    }


def below(folder: str, files: Mapping[str, str]) -> dict[str, str]:
    """Return the files in a folder."""
    return {f"{folder}/{name}": text for name, text in files.items()}


def test_a_container_with_a_cgroup_namespace(tmp_path: Path) -> None:
    """A container that sees its own cgroup as the root has its limits there."""
    read = measured(tmp_path, "0::/\n", limits(memory="1024", cpu="150000 100000", used=512, throttled=2_500_000))
    assert read == {
        "cgroup_memory_limit_bytes": {(): 1024},
        "cgroup_memory_used_bytes": {(): 512},
        "cgroup_cpu_limit_cores": {(): 1.5},
        "cgroup_cpu_throttled_seconds_total": {(): 2.5},
    }


def test_the_hosts_files_say_nothing_of_the_containers_limits() -> None:
    """With the host's /proc and /sys mounted elsewhere the container's limits are read from its own."""
    host = Paths(Path("/host/proc"), Path("/host/sys"), Path("/host"))
    collector = create(CollectorOptions(), CollectorContext(host))
    assert isinstance(collector, CgroupCollector)
    assert vars(vars(collector)["_cgroups"]) == vars(Cgroups(Path("/proc"), Path("/sys")))


def test_a_container_that_is_told_a_path_it_cannot_see(tmp_path: Path) -> None:
    """Without a cgroup namespace /proc names the host's path, and the mount is the container's own cgroup."""
    read = measured(tmp_path, "0::/docker/0123abcd\n", limits(memory="1024", used=5))
    assert read == {"cgroup_memory_limit_bytes": {(): 1024}, "cgroup_memory_used_bytes": {(): 5}}


def test_the_tightest_limit_of_all_above_counts(tmp_path: Path) -> None:
    """Of nested slices the smallest limit applies, with the usage and the throttling of its slice."""
    read = measured(
        tmp_path,
        "0::/a.slice/b.slice/c.service\n",
        {
            **below("a.slice", limits(memory="4000", cpu="50000 100000", used=40, throttled=4_000_000)),
            **below("a.slice/b.slice", limits(memory="1000", used=10, throttled=1_000_000)),
            **below("a.slice/b.slice/c.service", limits(memory="2000", cpu="200000 100000", used=20, throttled=0)),
        },
    )
    assert read == {
        "cgroup_memory_limit_bytes": {(): 1000},
        "cgroup_memory_used_bytes": {(): 10},
        "cgroup_cpu_limit_cores": {(): 0.5},
        "cgroup_cpu_throttled_seconds_total": {(): 4.0},
    }


def test_a_neighbour_s_limit_does_not_count(tmp_path: Path) -> None:
    """Only the cgroups up to the root are read."""
    files = {**below("ours", limits(memory="2000")), **below("theirs", limits(memory="1"))}
    assert measured(tmp_path, "0::/ours\n", files)["cgroup_memory_limit_bytes"] == {(): 2000}


def test_without_any_limit_it_is_unavailable(tmp_path: Path) -> None:
    """'max' everywhere is no limit, and a root without limit files has none."""
    with pytest.raises(Unavailable, match="no cgroup v2 limit"):
        measured(tmp_path, "0::/a\n", below("a", limits()))
    with pytest.raises(Unavailable, match="no cgroup v2 limit"):
        measured(tmp_path / "root", "0::/\n", {})


def test_one_limit_is_enough(tmp_path: Path) -> None:
    """A limit on CPU time alone is shown alone."""
    read = measured(tmp_path, "0::/\n", limits(cpu="100000 100000"))
    assert read == {"cgroup_cpu_limit_cores": {(): 1}, "cgroup_cpu_throttled_seconds_total": {(): 0}}


def test_a_limit_of_zero_is_a_limit(tmp_path: Path) -> None:
    """memory.max may be 0, which is the smallest limit."""
    files = {**limits(memory="1000", used=7), **below("a", limits(memory="0", used=3))}
    read = measured(tmp_path, "0::/a\n", files)
    assert read == {"cgroup_memory_limit_bytes": {(): 0}, "cgroup_memory_used_bytes": {(): 3}}


def test_a_kernel_without_throttling_counts(tmp_path: Path) -> None:
    """A cpu.stat without throttled_usec leaves the counter out."""
    files = {**limits(cpu="100000 100000"), "cpu.stat": "usage_usec 1\n"}
    assert set(measured(tmp_path, "0::/\n", files)) == {"cgroup_cpu_limit_cores"}


def test_a_hybrid_system(tmp_path: Path) -> None:
    """Where v1 and v2 are both mounted, v2 is at 'unified', and its path is in the line that starts with 0."""
    own = "4:memory:/v1\n1:cpu:/v1\n0::/a\n"
    read = measured(tmp_path, own, below("a", limits(memory="99", used=9)), mount="sys/fs/cgroup/unified")
    assert read == {"cgroup_memory_limit_bytes": {(): 99}, "cgroup_memory_used_bytes": {(): 9}}


def test_v1_alone_is_unavailable(tmp_path: Path) -> None:
    """A system with cgroup v1 alone has no v2 file system, and its processes no v2 path."""
    write(tmp_path, {"proc/self/cgroup": "4:memory:/a\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "1\n"})
    with pytest.raises(Unavailable, match="no cgroup v2 file system"):
        list(CgroupCollector(tmp_path / "proc", tmp_path / "sys").collect())
    with pytest.raises(Unavailable, match="not in a cgroup v2"):
        own_path("4:memory:/a\n1:name=systemd:/a\n")


def test_off_linux_it_is_unavailable(tmp_path: Path) -> None:
    """Without /proc and /sys the collector is unavailable, which is no failure."""
    with pytest.raises(Unavailable):
        list(CgroupCollector(tmp_path / "proc", tmp_path / "sys").collect())


def test_this_machine() -> None:
    """On the real machine each limit is positive and at least the usage; without limits the families are absent."""
    read = readings_or_reason(create(CollectorOptions(), CollectorContext()))
    if isinstance(read, str):
        assert "cgroup v2" in read
        return
    if "cgroup_memory_limit_bytes" in read:
        assert 0 < read["cgroup_memory_used_bytes"][()] <= read["cgroup_memory_limit_bytes"][()]
    assert read.get("cgroup_cpu_limit_cores", {(): 1})[()] > 0
