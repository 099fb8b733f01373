from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.collector import CollectorContext, CollectorOptions, Unavailable
from modelhost_exporter.collectors.rapl import RaplCollector, create
from tests.support.machine import FILES, write
from tests.support.readings import readings, readings_or_reason

if TYPE_CHECKING:
    from pathlib import Path

ZONE = "class/powercap/intel-rapl:0"


def zone(number: str, name: str, microjoules: object, whole: int = 1_000_000_000) -> dict[str, str]:
    """Return the files of a zone."""
    files = {"name": name, "energy_uj": microjoules, "max_energy_range_uj": whole}
    return {f"class/powercap/{number}/{file}": f"{text}\n" for file, text in files.items()}


def test_zones(tmp_path: Path) -> None:
    """Processors by number, and their parts by the processor's."""
    read = readings(RaplCollector(write(tmp_path, FILES) / "sys").collect())
    assert read == {
        "rapl_package_joules_total": {("0",): 1.5, ("1",): 2.5},
        "rapl_core_joules_total": {("0",): 0.5},
        "rapl_uncore_joules_total": {("0",): 0.125},
        "rapl_dram_joules_total": {("1",): 0.25},
        "rapl_psys_joules_total": {("0",): 5},
    }


def test_dies_of_one_processor_are_series_of_their_own(tmp_path: Path) -> None:
    """A processor of several dies has a zone for each."""
    write(tmp_path, {**zone("intel-rapl:0", "package-0-die-0", 1), **zone("intel-rapl:1", "package-0-die-1", 2)})
    assert set(readings(RaplCollector(tmp_path).collect())["rapl_package_joules_total"]) == {("0-die-0",), ("0-die-1",)}


def test_the_same_zone_through_two_interfaces_counts_once(tmp_path: Path) -> None:
    """Recent processors report one counter through a register and through memory."""
    write(tmp_path, {**zone("intel-rapl:0", "package-0", 10**6), **zone("intel-rapl-mmio:0", "package-0", 10**6)})
    assert readings(RaplCollector(tmp_path).collect()) == {"rapl_package_joules_total": {("0",): 1}}


def test_only_memory_mapped_zones(tmp_path: Path) -> None:
    """Some machines have the second interface only."""
    write(tmp_path, zone("intel-rapl-mmio:0", "package-0", 10**6))
    assert readings(RaplCollector(tmp_path).collect()) == {"rapl_package_joules_total": {("0",): 1}}


@pytest.mark.parametrize(
    ("before", "after", "joules"),
    [
        (900_000_000, 100_000_000, 1100),
        (999_999_999, 0, 1000),
        (400_000_000, 0, 400),
        (600_000_000, 200_000_000, 800),
        (100, 300_000_000, 300),
    ],
)
def test_the_end_of_the_range_is_no_restart(before: int, after: int, joules: float, tmp_path: Path) -> None:
    """Past the end of its range the energy goes on; a counter that starts again costs only what was not read."""
    collector = RaplCollector(tmp_path)
    for microjoules in (before, after):
        write(tmp_path, zone("intel-rapl:0", "package-0", microjoules))
        read = readings(collector.collect())
    assert read["rapl_package_joules_total"]["0",] == pytest.approx(joules, abs=0.001)


@pytest.mark.parametrize("odd", ["", "-1", "odd"])
def test_odd_zones_cost_only_themselves(odd: str, tmp_path: Path) -> None:
    """The other zones are there; one of another kind is none of ours."""
    write(tmp_path, {**zone("intel-rapl:0", "package-0", odd), **zone("intel-rapl:1", "package-1", 10**6)})
    write(tmp_path, zone("intel-rapl:1:0", "odd", 1))
    assert readings(RaplCollector(tmp_path).collect()) == {"rapl_package_joules_total": {("1",): 1}}


SCRIPT = """
import os, pathlib
from modelhost_exporter.collector import Unavailable
from modelhost_exporter.collectors.rapl import RaplCollector
os.setuid(65534)
collector = RaplCollector(pathlib.Path())
try:
    list(collector.collect())
except Unavailable as reason:
    print(reason)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to lose it")
def test_without_root_it_is_unavailable(tmp_path: Path) -> None:
    """The files are there and cannot be read: that is logged once, and is no failure in any scrape."""
    write(tmp_path, zone("intel-rapl:0", "package-0", 1))
    (tmp_path / ZONE / "energy_uj").chmod(0o400)
    tmp_path.chmod(0o755)
    ran = subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.stdout == f"only root may read {ZONE}/energy_uj\n", ran.stderr


def test_a_machine_without_zones_is_unavailable(tmp_path: Path) -> None:
    """Virtual machines have none."""
    write(tmp_path, {"class/powercap/intel-rapl/enabled": "0\n"})
    with pytest.raises(Unavailable):
        list(RaplCollector(tmp_path).collect())


def test_this_machine() -> None:
    """On the real machine each processor has an energy."""
    read = readings_or_reason(create(CollectorOptions(), CollectorContext()))
    assert isinstance(read, str) or read["rapl_package_joules_total"]
