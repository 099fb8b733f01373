from __future__ import annotations

import os
from typing import TYPE_CHECKING

from modelhost_exporter.collectors.sensors import SensorsCollector as Collector
from modelhost_exporter.linux.sensors import Sensors
from tests.support.machine import write
from tests.support.readings import readings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.readings import Readings

CPU = {"name": "coretemp\n", "temp1_input": "45000\n", "temp1_label": "Package id 0\n", "temp2_input": "40500\n"}
BOARD = {"name": "nct6798\n", "fan1_input": "900\n", "fan2_input": "0\n", "temp1_input": "35000\n"}


def measured(sysfs: Path, **chips: dict[str, str]) -> Readings:
    """Return what is measured of these folders of hwmon."""
    for folder, files in chips.items():
        write(sysfs / "class/hwmon" / folder, files)
    return readings(Collector(Sensors(sysfs)).collect())


def test_temperatures_and_fans(tmp_path: Path) -> None:
    """Thousandths of a degree become degrees; a sensor without a label has a number."""
    assert measured(tmp_path, hwmon0=CPU, hwmon1=BOARD) == {
        "sensor_temperature_celsius": {
            ("coretemp", "Package id 0"): 45,
            ("coretemp", "temp2"): 40.5,
            ("nct6798", "temp1"): 35,
        },
        "sensor_fan_rpm": {("nct6798", "fan1"): 900, ("nct6798", "fan2"): 0},
    }


def test_an_odd_fan_costs_only_itself(tmp_path: Path) -> None:
    """All temperatures and the other fan are read, under the same names as before."""
    for odd in ("odd\n", "", "nan\n", "-1\n", "99999999\n", "1e3\n"):
        read = measured(tmp_path, hwmon0=CPU, hwmon1=BOARD | {"fan1_input": odd})
        assert read["sensor_fan_rpm"] == {("nct6798", "fan2"): 0}
        assert len(read["sensor_temperature_celsius"]) == 3


def test_an_odd_temperature_costs_only_itself(tmp_path: Path) -> None:
    """A value that is no number, or no possible temperature, is absent; the next sensor keeps its name."""
    for odd in ("odd\n", "", "nan\n", "inf\n", "-274000\n", "99999999999\n"):
        read = measured(tmp_path, hwmon0=CPU | {"temp1_label": "", "temp1_input": odd})
        assert read["sensor_temperature_celsius"] == {("coretemp", "temp2"): 40.5}


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A sensor whose file is a folder (an I/O error), and a chip without a name, cost only themselves."""
    (tmp_path / "class/hwmon/hwmon0/temp3_input").mkdir(parents=True)
    read = measured(tmp_path, hwmon0=CPU, hwmon1={"temp1_input": "1000\n"})
    assert set(read["sensor_temperature_celsius"]) == {("coretemp", "Package id 0"), ("coretemp", "temp2")}


def test_a_label_that_is_not_utf8(tmp_path: Path) -> None:
    """Undecodable bytes are no error."""
    write(tmp_path / "class/hwmon/hwmon0", CPU)
    (tmp_path / "class/hwmon/hwmon0/temp1_label").write_bytes(b"CPU\xff\n")
    assert ("coretemp", r"CPU\xff") in measured(tmp_path)["sensor_temperature_celsius"]


def test_a_chip_that_never_answers(tmp_path: Path) -> None:
    """The other chips are read, and one of the same name keeps its sensors' names; a FIFO stands in for the chip."""
    drive = {"name": "nvme\n", "temp1_label": "Composite\n"}
    collector = Collector(Sensors(tmp_path))
    write(tmp_path / "class/hwmon/hwmon0", {**drive, "temp1_input": "30000\n"})
    write(tmp_path / "class/hwmon/hwmon1", {**drive, "temp1_input": "40000\n"})
    both = {("nvme", "Composite"): 30, ("nvme", "Composite 2"): 40}
    assert readings(collector.collect()) == {"sensor_temperature_celsius": both}
    blocked = tmp_path / "class/hwmon/hwmon0/temp1_input"
    blocked.unlink()
    os.mkfifo(blocked)
    for _ in range(2):
        assert readings(collector.collect()) == {"sensor_temperature_celsius": {("nvme", "Composite 2"): 40}}
    with blocked.open("w") as fifo:
        fifo.write("31000\n")


def test_thermal_zones_where_there_is_no_chip(tmp_path: Path) -> None:
    """Small Arm boards have zones alone; an odd one costs only itself."""
    write(tmp_path / "class/thermal/thermal_zone0", {"type": "cpu-thermal\n", "temp": "51000\n"})
    write(tmp_path / "class/thermal/thermal_zone1", {"type": "gpu-thermal\n", "temp": "odd\n"})
    assert readings(Collector(Sensors(tmp_path)).collect()) == {
        "sensor_temperature_celsius": {("cpu-thermal", "temp1"): 51}
    }
