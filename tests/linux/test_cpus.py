from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from modelhost_exporter.collectors.cpu import CpuCollector
from modelhost_exporter.linux.cpus import Cpus, parse_cpuinfo, parse_times
from tests.support.machine import psutil_double, write
from tests.support.readings import readings

STAT = "cpu  9 9 9\ncpu0 100 0 0 200 0 0 0 0 0 0\ncpu2 300 0 0 400 0 0 0 0 0 0\nintr 7 1 2\nctxt 8\nbtime 1\n"


def test_each_cpu_has_its_number() -> None:
    """With CPU 1 offline the others are 0 and 2; the line for all CPUs is left out."""
    times = parse_times(STAT)
    assert set(times) == {"0", "2"}
    assert times["2"]["user"] == 3 * times["0"]["user"]


@pytest.mark.parametrize("odd", ["cpu1 100 odd 0", "cpu1 -1 0 0", "cpu1x 1 2", "cpu1² 1 2", "cpu1 1 nan", "\u2028"])
def test_an_odd_line_costs_only_itself(odd: str, tmp_path: Path) -> None:
    """The other CPUs, context switches and interrupts are exported."""
    procfs = write(tmp_path, {"stat": STAT.replace("cpu2", f"{odd}\ncpu2")})
    read = readings(CpuCollector(psutil_double(), kernel=Cpus(procfs, tmp_path)).collect())
    assert {cpu for cpu, _ in read["cpu_seconds_total"]} == {"0", "2"}
    assert (read["context_switches_total"], read["interrupts_total"]) == ({(): 8}, {(): 7})


def test_frequencies_of_cpuinfo() -> None:
    """Each CPU's megahertz become hertz; an odd one costs only itself."""
    text = (
        "processor\t: 0\ncpu MHz\t\t: 1000.5\n\nprocessor\t: 1\ncpu MHz\t\t: odd\n\nprocessor\t: 2\ncpu MHz\t\t: 3000\n"
    )
    assert parse_cpuinfo(text) == {"0": 1000.5e6, "2": 3e9}


def test_frequencies_by_policy(tmp_path: Path) -> None:
    """The CPUs of one clock share a policy; a policy that cannot be read costs only its own CPUs."""
    folder = tmp_path / "devices/system/cpu/cpufreq"
    write(folder / "policy0", {"affected_cpus": "0 1\n", "scaling_cur_freq": "1000000\n"})
    write(folder / "policy2", {"affected_cpus": "2\n", "scaling_cur_freq": "<unknown>\n"})
    write(folder / "policy3", {"affected_cpus": "3\n", "cpuinfo_cur_freq": "2000000\n"})
    assert Cpus(tmp_path, tmp_path, 20.0).hertz() == {"0": 1e9, "1": 1e9, "3": 2e9}


@pytest.mark.parametrize("megahertz", ["nan", "inf", "-inf", "0.000"])
def test_a_frequency_that_is_none(megahertz: str, tmp_path: Path) -> None:
    """Neither NaN nor infinity reaches the page, and 0 is unknown."""
    procfs = write(tmp_path, {"stat": STAT, "cpuinfo": f"processor : 0\ncpu MHz : {megahertz}\n"})
    assert "cpu_frequency_hertz" not in readings(CpuCollector(psutil_double(), kernel=Cpus(procfs, tmp_path)).collect())


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_the_same_as_psutil() -> None:
    """On the real machine the CPUs and their modes are psutil's; the times lie between two of psutil's."""
    before, ours, after = (
        psutil.cpu_times(percpu=True),
        parse_times(Cpus(Path("/proc"), Path("/sys")).stat()),
        psutil.cpu_times(percpu=True),
    )
    assert len(ours) == len(before)
    for first, times, last in zip(before, ours.values(), after, strict=True):
        assert set(times) == set(first._fields)
        assert first.user <= times["user"] <= last.user
