from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.collector import Paths
from modelhost_exporter.linux.cgroups import UNLIMITED, Container, ContainerUse
from tests.support.machine import write

if TYPE_CHECKING:
    from collections.abc import Mapping

LIMITS = {
    "memory.max": "1000\n",
    "memory.current": "700\n",
    "memory.stat": "anon 300\nfile 400\ninactive_file 250\n",
    "cpu.max": "150000 100000\n",
    "cpu.stat": "usage_usec 2500000\n",
    "cpuset.cpus.effective": "0-3,8\n",
}
USE = ContainerUse(1000, 450, 1.5, 2.5)


def use(root: Path, files: Mapping[str, str], own: str = "/", first: str = "/", below: str = "") -> ContainerUse:
    """Return the use of the container with these files, by the paths of the exporter's and the first process."""
    write(root, {"proc/self/cgroup": f"0::{own}\n", "proc/1/cgroup": f"0::{first}\n"})
    write(root / "sys/fs/cgroup", {"cgroup.controllers": "cpu memory\n"})
    write(root / "sys/fs/cgroup" / below, files)
    return Container(root / "proc", root / "sys", 7).use()


def test_a_container_that_is_shared(tmp_path: Path) -> None:
    """Limits and use of the container: memory without files that were not used lately, the smallest number of CPUs."""
    assert use(tmp_path, LIMITS) == USE


def test_a_container_whose_cpus_are_fewer_than_its_time(tmp_path: Path) -> None:
    """Of a limit on CPU time and a list of CPUs the smaller counts."""
    assert use(tmp_path, {**LIMITS, "cpuset.cpus.effective": "6\n"}).cpus == 1


def test_the_time_that_a_limit_allows(tmp_path: Path) -> None:
    """It passes with the clock, times the CPUs that the limit has at that time."""
    use(tmp_path, LIMITS)
    moments = iter((5.0, 7.0, 8.0))
    container = Container(tmp_path / "proc", tmp_path / "sys", 7, lambda: next(moments))
    assert [container.use().limit_seconds for _ in range(2)] == [0, 3]
    write(tmp_path / "sys/fs/cgroup", {"cpu.max": "50000 100000\n"})
    assert container.use().limit_seconds == 3.5


def test_a_container_without_limits(tmp_path: Path) -> None:
    """A number without a limit is None; a list of CPUs is one."""
    files = {**LIMITS, "memory.max": "max\n", "cpu.max": "max 100000\n"}
    assert use(tmp_path, files) == ContainerUse(None, None, 5, 2.5)


@pytest.mark.parametrize(
    ("own", "first", "below", "expected"),
    [
        ("/docker/a", "/docker/a", "docker/a", USE),
        ("/system.slice/x.service", "/init.scope", "", USE),
        ("/system.slice/x.service", "/init.scope", "system.slice/x.service", UNLIMITED),
        ("/", "/../pause", "", UNLIMITED),
        ("/docker/unseen", "/docker/unseen", "", USE),
    ],
    ids=["host's names", "system in a container", "service of a host", "pod with common processes", "private mount"],
)
def test_which_limits_are_those_of_the_container(
    own: str, first: str, below: str, expected: ContainerUse, tmp_path: Path
) -> None:
    """Those of the groups that the exporter has in common with process 1 count, not those of its own service."""
    assert use(tmp_path, LIMITS, own, first, below) == expected


def test_a_container_of_its_own_limits_nothing_else(tmp_path: Path) -> None:
    """As the first process of its container the exporter is alone in it."""
    assert use(tmp_path, LIMITS) == USE
    assert Container(tmp_path / "proc", tmp_path / "sys", 1).use() == UNLIMITED


LIMITS_V1 = {
    "memory/PATH/memory.limit_in_bytes": "1000\n",
    "memory/PATH/memory.usage_in_bytes": "700\n",
    "memory/PATH/memory.stat": "inactive_file 20\nhierarchical_memory_limit 1000\ntotal_inactive_file 250\n",
    "memory/memory.limit_in_bytes": "9223372036854771712\n",
    "cpu/PATH/cpu.cfs_quota_us": "150000\n",
    "cpu/PATH/cpu.cfs_period_us": "100000\n",
    "cpu/cpu.cfs_quota_us": "-1\n",
    "cpu/cpu.cfs_period_us": "100000\n",
    "cpuacct/PATH/cpuacct.usage": "2500000000\n",
    "cpuset/PATH/cpuset.effective_cpus": "0-3,8\n",
}
TREES = ("memory", "cpu", "cpuacct", "cpuset")


def use_v1(root: Path, path: str, mounted: str, **changes: str) -> ContainerUse:
    """Return the use of a container with version 1, at a path that may not be mounted, with changed files."""
    groups = "".join(f"{number}:{tree}:{path}\n" for number, tree in enumerate(TREES, 2)) + "0::/\n"
    write(root, {"proc/self/cgroup": groups, "proc/1/cgroup": groups})
    files = {name: changes.get(name.rpartition("/")[2].replace(".", "_"), text) for name, text in LIMITS_V1.items()}
    files = {name: text for name, text in files.items() if mounted or "PATH" in name}
    write(root / "sys/fs/cgroup", {name.replace("PATH/", mounted): text for name, text in files.items()})
    write(root / "sys/fs/cgroup", {f"{tree}/cgroup.procs": "1\n" for tree in TREES})
    return Container(root / "proc", root / "sys", 7).use()


@pytest.mark.parametrize("mounted", ["docker/a/", ""])
@pytest.mark.parametrize("unified", [None, "", "hugetlb misc\n"])
def test_version_1(mounted: str, unified: str | None, tmp_path: Path) -> None:
    """Older hosts have other names and units, and a tree for each controller, also beside version 2 with others."""
    if unified is not None:
        write(tmp_path / "sys/fs/cgroup/unified", {"cgroup.controllers": unified})
    assert use_v1(tmp_path, "/docker/a", mounted) == USE


def test_version_1_without_limits(tmp_path: Path) -> None:
    """The largest number of pages is no limit of memory, and a negative quota none of CPU time."""
    unlimited = use_v1(
        tmp_path, "/docker/a", "docker/a/", memory_limit_in_bytes="9223372036854771712\n", cpu_cfs_quota_us="-1\n"
    )
    assert unlimited == ContainerUse(None, None, 5, 2.5)


@pytest.mark.parametrize("missing", ["proc/1/cgroup", "proc/self/cgroup", "sys/fs/cgroup/cgroup.controllers"])
def test_without_cgroups_there_are_no_limits(missing: str, tmp_path: Path) -> None:
    """A hidden process 1 and a system with cgroup v1 alone have none, and nothing fails."""
    use(tmp_path, LIMITS)
    (tmp_path / missing).unlink()
    assert Container(tmp_path / "proc", tmp_path / "sys", 7).use() == UNLIMITED


@pytest.mark.parametrize("name", ["memory.current", "memory.stat", "memory.max", "cpu.max", "cpu.stat"])
def test_an_odd_file_costs_only_its_number(name: str, tmp_path: Path) -> None:
    """The other numbers are there."""
    found = use(tmp_path, {**LIMITS, name: "odd\n"})
    assert sum(value is not None for value in found) >= 2
    assert found.cpus is not None


def test_the_files_of_a_host_have_no_container() -> None:
    """With the host's folders, the limits of the exporter's own container are not those of the host."""
    for paths in (Paths(rootfs=Path("/host")), Paths(procfs=Path("/host/proc"))):
        assert Container.measured_in(paths)() == UNLIMITED
    assert isinstance(Container.measured_in(Paths())(), ContainerUse)


def test_a_large_list_of_cpus_is_bounded(tmp_path: Path) -> None:
    """A list that no kernel writes is left out."""
    assert use(tmp_path, {**LIMITS, "cpuset.cpus.effective": f"0-{2**40}"}) == USE
