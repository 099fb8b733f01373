"""GPUs whose driver returns errors: they are down meanwhile, and all their metrics return afterwards."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.faults.observed import Resources, scraped, wait_until_normal
from tests.gpu.driver import FULL, Driver, plug_in
from tests.support.programs import wait_until
from tests.support.readings import Page

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.conftest import StartExporter
    from tests.support.programs import Exporter


Samples = dict[str, float]
STAY = {"modelhost_gpu_info", "modelhost_gpu_up", "modelhost_gpu_xid_monitored"}


@pytest.fixture
def start(
    standin: Path, driver: Driver, start_exporter: StartExporter, monkeypatch: pytest.MonkeyPatch
) -> StartExporter:
    """Return a function that starts the exporter on a machine with the stand-in driver."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(standin.parent))
    monkeypatch.setenv("STANDIN_SCRIPT", str(driver.script))

    def begin(*arguments: str, under: Sequence[str] = ()) -> Exporter:
        return start_exporter("--collector.disable-defaults", "--collector.gpu", *arguments, under=under)

    return begin


def samples(exporter: Exporter) -> Samples:
    """Return the samples of every GPU, by name and labels."""
    lines = exporter.page().decode().splitlines()
    found = (line.rpartition(" ") for line in lines if line.startswith("modelhost_gpu_") and "{" in line)
    return {series: float(value) for series, _, value in found}


def up(exporter: Exporter) -> float:
    """Return how many GPUs are up."""
    return sum(Page(exporter.page().decode()).by("modelhost_gpu_up", "gpu").values())


def settled(exporter: Exporter, count: int) -> Samples:
    """Return all samples once every family is present: means and XIDs take a moment."""
    last = [samples(exporter)]

    def is_settled() -> bool:
        last[0] = samples(exporter)
        names = Counter(series.partition("{")[0] for series in last[0])
        wanted = ("sm_active_ratio", "busy_seconds_total", "pcie_receive_bytes_total")
        watched = sum(value for series, value in last[0].items() if series.startswith("modelhost_gpu_xid_monitored"))
        return watched == count and all(names[f"modelhost_gpu_{name}"] == count for name in wanted)

    wait_until(is_settled, "every series is there", every=0.2)
    return last[0]


@pytest.mark.parametrize("count", [1, 8])
def test_gpus_of_which_every_query_fails_are_down(count: int, driver: Driver, start: StartExporter) -> None:
    """All of them at once, as in a container that lost its devices; each is logged once, and everything returns.

    Codes 2, 3 and 4 say "not supported" of everything for a moment, which must not be believed.
    """
    plug_in(driver, count, FULL, "NVIDIA H100 80GB HBM3")
    exporter = start()
    before = settled(exporter, count)
    resources = Resources.of(exporter)
    codes = (999, 6, 10, 12, 17, 20, 2, 3, 4)
    with scraped(exporter):
        for code in codes:
            driver.say("*", all=f"!{code}")
            wait_until(lambda: up(exporter) == 0, f"no GPU is up at code {code}")
            down = samples(exporter)
            assert {series.partition("{")[0] for series in down} == STAY
            driver.forget("*", "all")
            wait_until(lambda: up(exporter) == count, f"every GPU is up after code {code}")
            after = settled(exporter, count)
            assert after.keys() == before.keys(), code
            back = {key for key, value in before.items() if "_total{" in key and after[key] < value}
            assert not back, "counters do not go back"
    wait_until_normal(exporter, resources)
    logged = Counter(line.partition('"msg": "')[2].partition('"')[0].split(" ", 3)[-1] for line in exporter.lines)
    assert logged["failed"] == logged["answers again"] == count * len(codes), exporter.output()


def test_fields_that_are_refused_for_a_moment_come_back(driver: Driver, start: StartExporter) -> None:
    """Refused fields are absent and counted meanwhile, and the GPU is up."""
    plug_in(driver, 2, FULL, "NVIDIA H100 80GB HBM3")
    exporter = start()
    before = settled(exporter, 2)
    resources = Resources.of(exporter)
    refused = ("PowerUsage", "field.94.0", "UtilizationRates", "NumFans", "Samples.1", "MemoryInfo_v2")
    with scraped(exporter):
        for code in (2, 3, 4, 13):
            driver.say(1, dict.fromkeys(refused, f"!{code}"))
            lost = 'modelhost_gpu_fields_lost{gpu="1",'

            def fields_lost(wanted: int, start: str = lost) -> bool:
                found = [value for series, value in samples(exporter).items() if series.startswith(start)]
                return found == [wanted]

            wait_until(lambda: fields_lost(len(refused)), f"the fields are counted at code {code}")
            assert up(exporter) == 2
            assert not [series for series in samples(exporter) if "power_watts" in series and 'gpu="1"' in series]
            driver.forget(1, *refused)
            wait_until(lambda: fields_lost(0), f"no field is missing after code {code}")
            assert settled(exporter, 2).keys() == before.keys()
    wait_until_normal(exporter, resources)


def test_a_driver_that_cannot_be_opened_at_first(driver: Driver, start: StartExporter) -> None:
    """The collector fails instead of reporting no GPUs, and recovers once the driver can be opened."""
    plug_in(driver, 2, FULL, "NVIDIA H100 80GB HBM3")
    driver.say("-", Init="!999")
    exporter = start()
    with scraped(exporter):
        assert "cannot be opened: Unknown Error" in exporter.wait_for_message("collector failed")["detail"]
        driver.forget("-", "Init")
        wait_until(lambda: up(exporter) == 2, "both GPUs are up")
