from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from modelhost_exporter.collector import CollectorContext, CollectorOptions
from modelhost_exporter.collectors.cpu import CpuCollector, create, disjoint_modes
from modelhost_exporter.linux.cgroups import UNLIMITED, ContainerUse
from tests.support.machine import CpuTimes, psutil_double
from tests.support.readings import readings

if TYPE_CHECKING:
    from pathlib import Path


def user_seconds(*reads: float) -> list[float]:
    """Return one CPU's user time in successive scrapes when psutil returns ``reads``."""
    coming = iter(reads)
    source = psutil_double(cpu_times=lambda **_: [SimpleNamespace(_asdict=lambda: {"user": next(coming)})])
    collector = CpuCollector(source)
    return [readings(collector.collect())["cpu_seconds_total"]["0", "user"] for _ in reads]


def of_host(times: list[list[CpuTimes]], *uses: ContainerUse) -> list[tuple[float, float, float]]:
    """Return CPUs, their seconds, and those with work in successive scrapes."""
    coming, containers = iter(times), iter(uses)
    source = psutil_double(cpu_times=lambda **_: next(coming))
    collector = CpuCollector(source, container=lambda: next(containers, UNLIMITED))
    names = ("host_cpu_cores", "host_cpu_seconds_total", "host_cpu_busy_seconds_total")
    found = [readings(collector.collect()) for _ in times]
    return [(read[names[0]][()], read[names[1]][()], read[names[2]][()]) for read in found]


def test_the_work_of_the_host() -> None:
    """Seconds with work of all CPUs, from 0 on: not idle, waiting or stolen ones, and guests' once."""
    before, idle = CpuTimes(), CpuTimes(idle=1_001, iowait=6, steal=1.5)
    worked = CpuTimes(user=107.0, guest=33.0, system=51.0, irq=1.5)
    assert of_host([[before, before], [before, idle], [worked, idle]]) == [(2, 0, 0), (2, 3, 0), (2, 11.5, 8.5)]


def test_a_cpu_that_is_taken_offline_costs_no_work() -> None:
    """The sums neither fall nor jump when a CPU goes, or comes back."""
    first, later = CpuTimes(), CpuTimes(user=101.0)
    assert of_host([[first, first], [later], [later, later]]) == [(2, 0, 0), (1, 1, 1), (2, 1, 1)]


def test_the_work_of_a_container_with_a_limit() -> None:
    """With fewer CPUs than are online the container's counter counts; without, or with more, that of the machine."""
    first, later = CpuTimes(), CpuTimes(user=101.0)
    uses = [ContainerUse(cpus=1.5, cpu_seconds=70 + 0.5 * n, limit_seconds=3.0 * n) for n in range(2)]
    assert of_host([[first, first], [later, later]], *uses) == [(1.5, 0, 0), (1.5, 3, 0.5)]
    large = [ContainerUse(cpus=64, cpu_seconds=70 + 0.5 * n, limit_seconds=128.0 * n) for n in range(2)]
    assert of_host([[first, first], [later, later]], *large) == [(2, 0, 0), (2, 2, 2)]


def test_guest_time_is_taken_out_of_user_and_nice() -> None:
    """Modes are disjoint: guest time is counted once, although the kernel counts it in user and nice too."""
    seconds = readings(CpuCollector(psutil_double()).collect())["cpu_seconds_total"]
    assert seconds["0", "user"] == 100 - 30
    assert seconds["0", "nice"] == 10 - 4
    assert (seconds["0", "guest"], seconds["0", "guest_nice"]) == (30, 4)
    assert seconds["1", "user"] == 200 - 30


def test_modes_sum_to_all_time() -> None:
    """A CPU's modes add up to what the kernel counted, each second once."""
    times = CpuTimes()
    assert sum(disjoint_modes(times._asdict()).values()) == sum(times) - times.guest - times.guest_nice


def test_user_time_is_never_negative() -> None:
    """Guest time read ahead of user time does not make a counter negative."""
    assert disjoint_modes({"user": 1.0, "guest": 1.5})["user"] == 0.0


def test_modes_have_one_name_on_every_platform() -> None:
    """Windows' interrupt and dpc modes are named irq and softirq."""
    assert disjoint_modes({"user": 1.0, "interrupt": 2.0, "dpc": 3.0}) == {"user": 1.0, "irq": 2.0, "softirq": 3.0}


def test_a_small_step_back_is_held_and_then_followed() -> None:
    """A counter that steps back by less than 3 s stands still until it has caught up: Prometheus sees no reset."""
    assert user_seconds(100.0, 99.0, 97.1, 99.9, 100.5) == [100.0, 100.0, 100.0, 100.0, 100.5]


def test_a_large_fall_is_a_reset() -> None:
    """A CPU that was taken offline and starts again from less is followed at once."""
    assert user_seconds(100.0, 0.25, 1.0) == [100.0, 0.25, 1.0]
    assert user_seconds(100.0, 96.9, 97.0) == [100.0, 96.9, 97.0]


def test_cpus_and_modes_are_held_apart() -> None:
    """One CPU's high value does not hold another CPU or another mode."""
    reads = iter([[CpuTimes(system=50, idle=9), CpuTimes(system=49)], [CpuTimes(system=49), CpuTimes(system=49.5)]])
    collector = CpuCollector(psutil_double(cpu_times=lambda **_: next(reads)))
    list(collector.collect())
    seconds = readings(collector.collect())["cpu_seconds_total"]
    assert (seconds["0", "system"], seconds["1", "system"], seconds["0", "idle"]) == (50, 49.5, 1000)


def test_cores_and_events() -> None:
    """Logical and physical cores, context switches and interrupts are psutil's."""
    read = readings(CpuCollector(psutil_double()).collect())
    assert (read["cpu_logical_cores"], read["cpu_physical_cores"]) == ({(): 4}, {(): 2})
    assert (read["context_switches_total"], read["interrupts_total"]) == ({(): 1000}, {(): 2000})


def test_unknown_core_counts_are_absent() -> None:
    """A virtual machine that hides its cores has no number of cores, rather than zero."""
    read = readings(CpuCollector(psutil_double(cpu_count=lambda logical=True: 4 if logical else None)).collect())
    assert "cpu_physical_cores" not in read
    assert read["cpu_logical_cores"] == {(): 4}


def test_frequency_is_in_hertz() -> None:
    """Megahertz become hertz, CPU by CPU."""
    assert readings(CpuCollector(psutil_double()).collect())["cpu_frequency_hertz"] == {("0",): 2.4e9, ("1",): 2.4e9}


def not_implemented(**_: bool) -> Any:
    """Raise an error, as psutil does on some platforms."""
    raise NotImplementedError


def unreadable(**_: bool) -> Any:
    """Raise an error, as in some containers."""
    raise PermissionError


@pytest.mark.parametrize(
    "cpu_freq",
    [None, not_implemented, unreadable, lambda **_: None, lambda **_: [SimpleNamespace(current=0.0)]],
    ids=["no function", "not implemented", "refused", "no answer", "zero"],
)
def test_unknown_frequency_is_absent(cpu_freq: Any) -> None:
    """Where the platform does not report the frequency, it alone is absent."""
    read = readings(CpuCollector(psutil_double(cpu_freq=cpu_freq)).collect())
    assert "cpu_frequency_hertz" not in read
    assert read["interrupts_total"] == {(): 2000}


def test_this_machine() -> None:
    """On the real machine every CPU has idle and user time, and nothing shrinks from one scrape to the next."""
    collector = create(CollectorOptions(), CollectorContext())
    first, second = readings(collector.collect()), readings(collector.collect())
    assert first["cpu_logical_cores"] == {(): os.cpu_count()}
    seconds = first["cpu_seconds_total"]
    assert {cpu for cpu, _ in seconds} == {str(cpu) for cpu in range(os.cpu_count() or 0)}
    assert sum(seconds.values()) > 0
    assert all(second["cpu_seconds_total"][key] >= value for key, value in seconds.items())
    assert second["context_switches_total"][()] > first["context_switches_total"][()] - 1 > 0


def test_a_cpu_that_is_offline_does_not_change_the_others_numbers(tmp_path: Path) -> None:
    """With CPU 1 of three offline the two others are 0 and 2, as the kernel numbers them."""
    online = tmp_path / "devices/system/cpu/online"
    online.parent.mkdir(parents=True)
    online.write_text("0,2\n")
    found = readings(CpuCollector(psutil_double(), tmp_path).collect())
    assert {cpu for cpu, _ in found["cpu_seconds_total"]} == {"0", "2"}
    assert set(found["cpu_frequency_hertz"]) == {("0",), ("2",)}


def test_cpus_that_share_a_clock_each_have_its_frequency(tmp_path: Path) -> None:
    """Where psutil answers by cpufreq policy, each CPU has the frequency of the policy that it belongs to."""
    policies = {"policy10": "10 11\n", "policy0": "0 1 2\n", "policy4": "\n"}  # policy4: all its CPUs are offline
    for name, cpus in policies.items():
        folder = tmp_path / "devices/system/cpu/cpufreq" / name
        folder.mkdir(parents=True)
        (folder / "affected_cpus").write_text(cpus)
    source = psutil_double(
        cpu_times=lambda **_: [CpuTimes()] * 5,
        cpu_freq=lambda **_: [SimpleNamespace(current=mhz) for mhz in (1000.0, 0.0, 3000.0)],
    )
    assert readings(CpuCollector(source, tmp_path).collect())["cpu_frequency_hertz"] == {
        ("0",): 1e9,
        ("1",): 1e9,
        ("2",): 1e9,
        ("10",): 3e9,
        ("11",): 3e9,
    }


@pytest.mark.parametrize("online", ["0-5\n", "", "junk\n"])
def test_numbers_that_do_not_fit_are_not_used(tmp_path: Path, online: str) -> None:
    """If the list of CPUs is invalid or of another length, psutil's order is kept."""
    (tmp_path / "devices/system/cpu").mkdir(parents=True)
    (tmp_path / "devices/system/cpu/online").write_text(online)
    found = readings(CpuCollector(psutil_double(), tmp_path).collect())
    assert {cpu for cpu, _ in found["cpu_seconds_total"]} == {"0", "1"}
