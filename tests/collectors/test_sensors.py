from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelhost_exporter.collector import CollectorContext, CollectorOptions, Unavailable
from modelhost_exporter.collectors.sensors import SensorsCollector, create
from tests.support.machine import Sensor, psutil_double
from tests.support.readings import readings, readings_or_reason

if TYPE_CHECKING:
    from types import SimpleNamespace


def temperatures(*labels: str) -> dict[tuple[str, ...], float]:
    """Return the series of one chip with these sensor labels; the value of each is its position."""
    sensors = [Sensor(label, place) for place, label in enumerate(labels)]
    source = psutil_double(sensors_temperatures=lambda: {"chip": sensors})
    return readings(SensorsCollector(source).collect())["sensor_temperature_celsius"]


def without(*functions: str) -> SimpleNamespace:
    """Return a psutil that lacks these functions."""
    return psutil_double(**dict.fromkeys(functions))


def test_temperatures_and_fans() -> None:
    """Every sensor has its chip, its own name and its reading."""
    read = readings(SensorsCollector(psutil_double()).collect())
    assert read == {
        "sensor_temperature_celsius": {("nvme", "Composite"): 40.5},
        "sensor_fan_rpm": {("board", "cpu"): 900},
    }


def test_two_chips_of_one_name_stay_apart() -> None:
    """Two NVMe drives come under one name: the second drive's sensors are numbered."""
    read = temperatures("Composite", "Sensor 1", "Composite", "Sensor 1")
    assert read == {
        ("chip", "Composite"): 0,
        ("chip", "Sensor 1"): 1,
        ("chip", "Composite 3"): 2,
        ("chip", "Sensor 1 4"): 3,
    }


def test_unlabelled_sensors_are_numbered() -> None:
    """A sensor without a label is named after its type and number."""
    assert set(temperatures("", "Core 0", "")) == {("chip", "temp1"), ("chip", "Core 0"), ("chip", "temp3")}
    fans = psutil_double(sensors_fans=lambda: {"board": [Sensor("", 800), Sensor("", 0)]})
    assert readings(SensorsCollector(fans).collect())["sensor_fan_rpm"] == {
        ("board", "fan1"): 800,
        ("board", "fan2"): 0,
    }


def test_a_number_does_not_collide_with_a_label() -> None:
    """A generated name is unique even if another sensor has that label."""
    assert len(temperatures("x 3", "x", "x")) == 3


@given(st.lists(st.sampled_from(["", "x", "x 2", "x 3", "temp2"]), min_size=1, max_size=5))
def test_every_sensor_has_a_name_of_its_own(labels: list[str]) -> None:
    """Whatever labels a chip has, no sensor is lost and no series is duplicated."""
    assert sorted(temperatures(*labels).values()) == list(range(len(labels)))


@pytest.mark.parametrize(
    "source",
    [
        without("sensors_temperatures", "sensors_fans"),
        psutil_double(sensors_temperatures=dict, sensors_fans=dict),
        psutil_double(sensors_temperatures=lambda: None, sensors_fans=lambda: None),
        psutil_double(sensors_temperatures=lambda: {"chip": []}, sensors_fans=dict),
    ],
    ids=["no functions", "no chips", "no answer", "a chip without sensors"],
)
def test_without_sensors_it_is_unavailable(source: Any) -> None:
    """On a platform or machine without sensors the collector is unavailable, which is no failure."""
    with pytest.raises(Unavailable, match="no sensors"):
        list(SensorsCollector(source).collect())


def test_temperatures_without_fans() -> None:
    """FreeBSD has temperatures and no function for fans."""
    assert set(readings(SensorsCollector(without("sensors_fans")).collect())) == {"sensor_temperature_celsius"}


def test_this_machine() -> None:
    """On the real machine temperatures are plausible, or the collector is unavailable."""
    read = readings_or_reason(create(CollectorOptions(), CollectorContext()))
    if isinstance(read, str):
        assert read == "no sensors found"
        return
    assert all(-50 < value < 150 for value in read.get("sensor_temperature_celsius", {}).values())
    assert all(value >= 0 for value in read.get("sensor_fan_rpm", {}).values())
