"""An invalid line, number or file of the kernel costs only its own values, on the page of the real exporter."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.faults.observed import scraped
from tests.support.machine import FILES, write
from tests.support.readings import Page

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.conftest import StartExporter

SDA = "8 0 sda 7 1 14 1500 9 2 18 2500 0 3500 4500\n"
DEV = "Inter-| Receive\n face |bytes\n eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n"
MACHINE: Mapping[str, str] = {
    **FILES,
    "proc/stat": "cpu0 1 0 0 2\ncpu1 3 0 0 4\nintr 7\nctxt 8\nbtime 1700000000\nprocs_running 1\nprocs_blocked 0\n",
    "proc/meminfo": "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 600 kB\nCached: 200 kB\nBuffers: 50 kB\n",
    "proc/diskstats": SDA,
    "proc/net/dev": DEV,
    "proc/self/mountinfo": "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n",
    "sys/class/net/eth0/operstate": "up\n",
    "sys/class/net/eth0/speed": "1000\n",
    "sys/class/hwmon/hwmon0/name": "board\n",
    "sys/class/hwmon/hwmon0/temp1_input": "45000\n",
    "sys/class/hwmon/hwmon0/fan1_input": "900\n",
}
ADDED: Mapping[str, str] = {
    "proc/stat": "cpu2 odd\n\nprocs_running\n",
    "proc/meminfo": "Odd:\nodd\n\nHugetlb: -1 kB\n",
    "proc/diskstats": "8 16 sdb odd 2 3\n8 32 sdc 1 2 3\n",
    "proc/net/dev": " eth1: 1 2 odd\n eth2\n",
    "proc/self/mountinfo": "odd\n\n23 22 8:2 / /odd rw\n",
    "proc/vmstat": "pswpin odd\nodd\n",
    "sys/class/net/eth3/speed": "odd\n",
    "sys/class/hwmon/hwmon0/temp2_input": "nan\n",
    "sys/class/hwmon/hwmon0/temp3_input": "999999999\n",
    "sys/class/hwmon/hwmon0/fan2_input": "odd\n",
    "sys/class/hwmon/hwmon1/fan1_input": "1\n",
}
ODD_BYTES = b"\xff\xfe\x00\x85\xe2\x80\xa8\x0b odd\n"
COLLECTORS = (
    "clock",
    "cpu",
    "disk",
    "file_descriptors",
    "filesystem",
    "memory",
    "network",
    "pressure",
    "processes",
    "sensors",
    "tcp",
)
PORT = "listener="
"""A label with the port of this run."""
VARIES = (
    "scrape_",
    "config_",
    "time_seconds",
    "clock_",
    "load",
    "filesystem_available",
    "filesystem_free",
    "filesystem_files_free",
    "timestamp",
)


def series(start_exporter: StartExporter, root: Path) -> dict[str, float]:
    """Return what the real exporter measures of these files, series by series."""
    exporter = start_exporter(f"--path.procfs={root}/proc", f"--path.sysfs={root}/sys")
    with scraped(exporter) as _:
        page = exporter.page("?" + "&".join(f"collect[]={name}" for name in COLLECTORS)).decode()
    success = Page(page).by("modelhost_scrape_collector_success", "collector")
    assert success == {(name,): 1 for name in COLLECTORS}
    lines = [line.rpartition(" ") for line in page.splitlines() if not line.startswith("#")]
    found = {name: float(value) for name, _, value in lines if name.startswith("modelhost_")}
    return {name: value for name, value in found.items() if PORT not in name}


def comparable(found: dict[str, float]) -> dict[str, float]:
    """Return the series whose values do not change by themselves."""
    return {name: value for name, value in found.items() if not any(word in name for word in VARIES)}


@pytest.mark.parametrize("added", ["lines", "bytes"])
def test_odd_lines_change_nothing_else(added: str, start_exporter: StartExporter, tmp_path: Path) -> None:
    """With odd lines among the others, and odd bytes at the end of each file, every series is as without them."""
    before = series(start_exporter, write(tmp_path / "sound", MACHINE))
    assert {name.partition("{")[0].split("_")[1] for name in before} >= {
        "cpu",
        "disk",
        "memory",
        "network",
        "sensor",
    }
    shutil.copytree(tmp_path / "sound", tmp_path / "odd")
    for name, text in ADDED.items():
        file = tmp_path / "odd" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        old = file.read_bytes() if file.exists() else b""
        file.write_bytes(old + (text.encode() if added == "lines" else b"" if "sys/" in name else ODD_BYTES))
    after = series(start_exporter, tmp_path / "odd")
    assert comparable(after) == comparable(before)
    assert after.keys() == before.keys()
    assert all(abs(value) < 1e300 for value in after.values())
