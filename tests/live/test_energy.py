"""Power and energy of the message, from counters and power that the test sets."""

from __future__ import annotations

import time

import pytest

from modelhost_exporter.config.cost import Cost
from modelhost_exporter.live.energy import EnergyToday
from modelhost_exporter.live.family_lookup import Families
from tests.live.client import check_message
from tests.live.machine import Machine

KWH = 3.6e6


def cpu(machine: Machine, joules: float, dram: float = 0.0) -> None:
    """Set the energy of the processor and its memory."""
    machine.set("rapl_package_joules_total", joules, index="0")
    machine.set("rapl_dram_joules_total", dram, index="0")


def test_nothing_measured_is_null() -> None:
    """A machine without energy counters and GPUs has no energy, not 0."""
    assert Machine().read()["energy"] is None


def test_energy_of_counters_is_exact_and_has_a_price() -> None:
    """GPU and processors add up; the first reading is where counting begins."""
    machine = Machine()
    machine.cost = Cost("EUR", 0.5)
    machine.gpu("0", energy_joules_total=0.0, power_watts=300.0)
    cpu(machine, 1e9)
    first = machine.read()["energy"]
    assert (first["powerWatts"], first["todayKwh"], first["todayCost"]) == (None, 0, 0)
    machine.gpu("0", energy_joules_total=KWH, power_watts=300.0)
    cpu(machine, 1e9 + KWH / 2, KWH / 2)
    message = machine.read(after=3600)
    check_message(message)
    energy = message["energy"]
    assert energy["parts"] == ["GPUs", "processors"]
    assert energy["powerWatts"] == pytest.approx(300 + 1000)
    assert energy["todayKwh"] == pytest.approx(2)
    assert (energy["todayCost"], energy["currency"]) == (pytest.approx(1), "EUR")


def test_power_counts_where_there_is_no_counter() -> None:
    """Over short times only: what a GPU did in a pause of the readings is not known."""
    machine = Machine()
    machine.gpu("0", power_watts=100.0)
    machine.read()
    machine.gpu("0", power_watts=200.0)
    energy = machine.read(after=2)["energy"]
    assert (energy["powerWatts"], energy["todayCost"], energy["currency"]) == (200, None, None)
    assert energy["todayKwh"] * KWH == pytest.approx(300)
    assert machine.read(after=300)["energy"]["todayKwh"] * KWH == pytest.approx(300)


def test_a_gpu_that_was_away_keeps_its_counter_and_a_reset_takes_nothing() -> None:
    """A counter bridges readings without it; one that fell began again."""
    machine = Machine()
    machine.gpu("0", energy_joules_total=1000.0)
    machine.read()
    machine.forget("gpu_energy_joules_total")
    machine.read()
    machine.gpu("0", energy_joules_total=1600.0)
    assert machine.read()["energy"]["todayKwh"] * KWH == pytest.approx(600)
    machine.gpu("0", energy_joules_total=5.0)
    assert machine.read()["energy"]["todayKwh"] * KWH == pytest.approx(600)
    machine.gpu("0", energy_joules_total=25.0)
    assert machine.read()["energy"]["todayKwh"] * KWH == pytest.approx(620)


def test_the_gpu_of_an_apu_is_part_of_its_processor() -> None:
    """Its sensor has the power of the whole processor, which RAPL counts."""
    machine = Machine()
    machine.gpu("0", power_watts=60.0, unified_memory=1.0)
    assert machine.read()["energy"]["powerWatts"] == 60
    cpu(machine, 0.0)
    machine.read()
    cpu(machine, 120.0)
    energy = machine.read(after=2)["energy"]
    assert (energy["powerWatts"], energy["parts"]) == (60, ["processors"])


def test_a_new_day_begins_at_midnight() -> None:
    """Energy of the day before does not count; what is shown says since when."""
    energy = EnergyToday(time.gmtime)
    machine = Machine()
    midnight = 1.8e9 - 1.8e9 % 86400 + 86400
    for at, joules in ((midnight - 4, 0.0), (midnight - 2, 1000.0), (midnight, 1500.0), (midnight + 2, 1600.0)):
        machine.gpu("0", energy_joules_total=joules)
        message = energy.message(at, at, Families(machine.reading().families), Cost())
    assert message is not None
    assert message["todayKwh"] * KWH == pytest.approx(600)
    assert message["todaySince"] == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(midnight))
