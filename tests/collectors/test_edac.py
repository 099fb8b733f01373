from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.collector import CollectorContext, CollectorOptions, Unavailable
from modelhost_exporter.collectors.edac import EdacCollector, create
from tests.support.machine import FILES, write
from tests.support.readings import readings, readings_or_reason

if TYPE_CHECKING:
    from pathlib import Path


def test_controllers_and_modules(tmp_path: Path) -> None:
    """Errors of each controller, and of each module under its place on the board."""
    read = readings(EdacCollector(write(tmp_path, FILES) / "sys").collect())
    assert read == {
        "edac_correctable_errors_total": {("0",): 5, ("1",): 0},
        "edac_uncorrectable_errors_total": {("0",): 2, ("1",): 0},
        "edac_dimm_correctable_errors_total": {("0", "dimm3", "CPU0_DIMM_B1"): 4},
        "edac_dimm_uncorrectable_errors_total": {("0", "dimm3", "CPU0_DIMM_B1"): 1},
    }


def test_ranks_count_where_there_are_no_modules(tmp_path: Path) -> None:
    """Some controllers know the rank only; where both are, errors would count twice."""
    write(tmp_path / "devices/system/edac/mc/mc0", {"ce_count": "1\n", "rank0/dimm_ce_count": "1\n"})
    collector = EdacCollector(tmp_path)
    assert readings(collector.collect())["edac_dimm_correctable_errors_total"] == {("0", "rank0", ""): 1}
    write(tmp_path / "devices/system/edac/mc/mc0", {"dimm0/dimm_ce_count": "1\n"})
    assert readings(collector.collect())["edac_dimm_correctable_errors_total"] == {("0", "dimm0", ""): 1}


@pytest.mark.parametrize("odd", ["", "-1\n", "odd\n"])
def test_odd_files_cost_only_their_number(odd: str, tmp_path: Path) -> None:
    """The other numbers are there."""
    write(tmp_path / "devices/system/edac/mc", {"mc0/ce_count": odd, "mc0/ue_count": "0\n", "mc1/ce_count": "3\n"})
    read = readings(EdacCollector(tmp_path).collect())
    assert read == {"edac_correctable_errors_total": {("1",): 3}, "edac_uncorrectable_errors_total": {("0",): 0}}


def test_a_machine_without_controllers_is_unavailable(tmp_path: Path) -> None:
    """Virtual machines have none; a kernel with EDAC and without a driver has an empty folder."""
    write(tmp_path / "devices/system/edac/mc", {"power/control": "auto\n"})
    with pytest.raises(Unavailable):
        list(EdacCollector(tmp_path).collect())


def test_this_machine() -> None:
    """On the real machine each controller has a number of errors."""
    read = readings_or_reason(create(CollectorOptions(), CollectorContext()))
    assert isinstance(read, str) or read["edac_uncorrectable_errors_total"]
