from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import pytest

from modelhost_exporter.collector import Unavailable, each, log_once, parts
from modelhost_exporter.collectors.cgroup import CgroupCollector
from modelhost_exporter.collectors.clock import ClockCollector
from modelhost_exporter.collectors.file_descriptors import FileDescriptorsCollector
from modelhost_exporter.collectors.pressure import PressureCollector
from modelhost_exporter.collectors.tcp import TcpCollector
from modelhost_exporter.metrics.families import gauge
from tests.support.machine import FILES, psutil_double, write
from tests.support.readings import readings

if TYPE_CHECKING:
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

    from tests.support.readings import Readings

ONE = gauge("one", "One.")


def one() -> list[Metric]:
    """Return a family."""
    return list(ONE.of(1))


def fail() -> NoReturn:
    """Raise an error, as reading a kernel file may."""
    raise OSError(5, "Input/output error", "/sys/file")


def lack() -> NoReturn:
    """Raise Unavailable."""
    raise Unavailable("not here")


def test_a_part_that_fails_costs_only_itself() -> None:
    """A part that fails or is unavailable does not affect the others."""
    assert readings(parts(fail, one, lack)) == {"one": {(): 1}}


def test_a_failure_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A repeated failure is logged once for each source, even if its text differs."""
    for number in range(3):
        log_once("a source of this test", f"problem {number}")
    assert [record.getMessage() for record in caplog.records] == ["a part of a collector is left out"]


def test_all_parts_fail() -> None:
    """Without any part the collector fails, or is unavailable if every part was unavailable."""
    with pytest.raises(OSError, match="Input/output"):
        list(parts(lack, fail))
    with pytest.raises(OSError, match="Input/output"):
        list(parts(fail, list))
    with pytest.raises(Unavailable, match="not here"):
        list(parts(lack, lack))
    assert list(parts(list)) == []


def test_a_number_of_zero_is_something() -> None:
    """0 counts as a result; None and empty results do not."""
    assert each({"zero": lambda: 0, "failed": fail}) == {"zero": 0}
    with pytest.raises(OSError, match="Input/output"):
        each({"none": lambda: None, "failed": fail})


def pressure(tmp_path: Path, file: str, text: str) -> Readings:
    """Return the pressure with one file changed."""
    return readings(PressureCollector(write(tmp_path, {**FILES, f"proc/pressure/{file}": text}) / "proc").collect())


@pytest.mark.parametrize("text", ["", "odd\n", f"some total={'9' * 5000}\n", "some total=²\n", "some total=-1\n"])
def test_one_odd_pressure_file(text: str, tmp_path: Path) -> None:
    """An invalid file costs only its own resource."""
    assert set(pressure(tmp_path, "memory", text)["pressure_waiting_seconds_total"]) == {("cpu",), ("io",)}


def test_one_pressure_file_that_is_absent(tmp_path: Path) -> None:
    """A kernel that accounts for some resources has the families of those."""
    write(tmp_path, FILES)
    (tmp_path / "proc/pressure/io").unlink()
    read = readings(PressureCollector(tmp_path / "proc").collect())
    assert set(read["pressure_waiting_seconds_total"]) == {("cpu",), ("memory",)}


@pytest.mark.parametrize(
    ("file", "text", "left"),
    [
        ("snmp", "Tcp: A CurrEstab\nTcp: 1 odd\n", "time_wait"),
        ("snmp", "Tcp: A CurrEstab\nTcp: 1\n", "time_wait"),
        ("snmp", "Tcp: CurrEstab\nTcp: -1\n", "time_wait"),
        ("sockstat", f"TCP: tw {'9' * 5000}\n", "established"),
    ],
)
def test_one_odd_summary_of_tcp(file: str, text: str, left: str, tmp_path: Path) -> None:
    """The state from the other file is exported."""
    read = readings(TcpCollector(write(tmp_path, {**FILES, f"proc/net/{file}": text}) / "proc").collect())
    assert set(read["tcp_connections"]) == {(left,)}


def test_one_summary_of_tcp_that_is_absent(tmp_path: Path) -> None:
    """A kernel without sockstat still has established connections."""
    write(tmp_path, FILES)
    (tmp_path / "proc/net/sockstat").unlink()
    assert readings(TcpCollector(tmp_path / "proc").collect()) == {"tcp_connections": {("established",): 6}}


@pytest.mark.parametrize(
    ("changed", "lost"),
    [
        ({"memory.current": "odd\n"}, {"cgroup_memory_used_bytes"}),
        ({"memory.max": "-1\n"}, {"cgroup_memory_limit_bytes", "cgroup_memory_used_bytes"}),
        ({"cpu.max": "150000\n"}, {"cgroup_cpu_limit_cores", "cgroup_cpu_throttled_seconds_total"}),
        ({"cpu.max": "150000 0\n"}, {"cgroup_cpu_limit_cores", "cgroup_cpu_throttled_seconds_total"}),
        ({"cpu.stat": "throttled_usec odd\n"}, {"cgroup_cpu_throttled_seconds_total"}),
    ],
)
def test_one_odd_file_of_a_cgroup(changed: dict[str, str], lost: set[str], tmp_path: Path) -> None:
    """Only the values of the invalid file are missing."""
    whole = set(readings(CgroupCollector(write(tmp_path, FILES) / "proc", tmp_path / "sys").collect()))
    write(tmp_path / "sys/fs/cgroup", changed)
    assert set(readings(CgroupCollector(tmp_path / "proc", tmp_path / "sys").collect())) == whole - lost


@pytest.mark.parametrize("text", ["735\t0\todd\n", "735\t0\t-1\n", f"735 0 {'9' * 5000}\n"])
def test_one_odd_number_of_files(text: str, tmp_path: Path) -> None:
    """The number of allocated files is exported."""
    read = readings(FileDescriptorsCollector(write(tmp_path, {"sys/fs/file-nr": text})).collect())
    assert read == {"file_descriptors_allocated": {(): 735}}


def test_an_unreadable_boot_time() -> None:
    """The current time is exported."""
    assert readings(ClockCollector(psutil_double(boot_time=fail), lambda: 1.8e9).collect()) == {
        "time_seconds": {(): 1.8e9}
    }
