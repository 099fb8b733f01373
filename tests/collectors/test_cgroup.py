from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
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
    with pytest.raises(Unavailable, match="no limit of a control group"):
        measured(tmp_path, "0::/a\n", below("a", limits()))
    with pytest.raises(Unavailable, match="no limit of a control group"):
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


def test_version_1(tmp_path: Path) -> None:
    """Each controller has a tree and a path of its own; time is in nanoseconds."""
    write(tmp_path, {"proc/self/cgroup": "4:memory:/a\n3:cpu,cpuacct:/b\n1:name=systemd:/c\n"})
    write(
        tmp_path / "sys/fs/cgroup",
        {
            "memory/cgroup.procs": "",
            "memory/a/memory.limit_in_bytes": "1024\n",
            "memory/a/memory.usage_in_bytes": "512\n",
            "cpu/cgroup.procs": "",
            "cpu/b/cpu.cfs_quota_us": "150000\n",
            "cpu/b/cpu.cfs_period_us": "100000\n",
            "cpu/b/cpu.stat": "nr_periods 9\nthrottled_time 2500000000\n",
        },
    )
    assert readings(CgroupCollector(tmp_path / "proc", tmp_path / "sys").collect()) == {
        "cgroup_memory_limit_bytes": {(): 1024},
        "cgroup_memory_used_bytes": {(): 512},
        "cgroup_cpu_limit_cores": {(): 1.5},
        "cgroup_cpu_throttled_seconds_total": {(): 2.5},
    }


def test_a_process_in_no_group_is_unavailable(tmp_path: Path) -> None:
    """Without a tree that is mounted, or a path in it, there are no limits."""
    write(tmp_path, {"proc/self/cgroup": "4:memory:/a\n"})
    with pytest.raises(Unavailable, match="no file system of control groups"):
        list(CgroupCollector(tmp_path / "proc", tmp_path / "sys").collect())
    for tree in ("", "cpu", "name"):
        with pytest.raises(Unavailable, match="in no control group"):
            own_path("4:memory:/a\n1:name=systemd:/a\n", tree)


JOIN = """
import json, os, pathlib, sys
from modelhost_exporter.collectors.cgroup import CgroupCollector
for folder in sys.argv[1:]:
    pathlib.Path(folder, "cgroup.procs").write_text(str(os.getpid()))
families = CgroupCollector(pathlib.Path("/proc"), pathlib.Path("/sys")).collect()
print(json.dumps({sample.name: sample.value for family in families for sample in family.samples}))
"""


def test_a_real_group_of_version_1() -> None:
    """The limits of real groups, where the machine has this version and allows to make one."""
    files = {"memory/memory.limit_in_bytes": str(2**29), "cpu/cpu.cfs_quota_us": "250000"}
    with ExitStack() as stack:
        folders = []
        for name, limit in files.items():
            tree, _, file = name.partition("/")
            folder = Path("/sys/fs/cgroup", tree, f"modelhost-test-{os.getpid()}")
            try:
                folder.mkdir()
                stack.callback(folder.rmdir)
                (folder / file).write_text(limit)
            except OSError as error:
                pytest.skip(f"no control groups of version 1: {error}")
            folders.append(str(folder))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", JOIN, *folders]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    read = json.loads(done.stdout)
    assert read["modelhost_cgroup_memory_limit_bytes"] == 2**29
    assert 0 < read["modelhost_cgroup_memory_used_bytes"] <= 2**29
    assert read["modelhost_cgroup_cpu_limit_cores"] == 2.5
    assert read["modelhost_cgroup_cpu_throttled_seconds_total"] >= 0


def test_off_linux_it_is_unavailable(tmp_path: Path) -> None:
    """Without /proc and /sys the collector is unavailable, which is no failure."""
    with pytest.raises(Unavailable):
        list(CgroupCollector(tmp_path / "proc", tmp_path / "sys").collect())


def test_this_machine() -> None:
    """On the real machine each limit is positive and at least the usage; without limits the families are absent."""
    read = readings_or_reason(create(CollectorOptions(), CollectorContext()))
    if isinstance(read, str):
        assert "control group" in read
        return
    if "cgroup_memory_limit_bytes" in read:
        assert 0 < read["cgroup_memory_used_bytes"][()] <= read["cgroup_memory_limit_bytes"][()]
    assert read.get("cgroup_cpu_limit_cores", {(): 1})[()] > 0
