from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.collector import CollectorContext, CollectorOptions, Unavailable
from modelhost_exporter.collectors.softnet import SoftnetCollector, create
from tests.support.machine import FILES, write
from tests.support.readings import readings, readings_or_reason

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.readings import Readings


def measured(tmp_path: Path, text: str) -> Readings:
    """Return what is measured of a file."""
    return readings(SoftnetCollector(write(tmp_path, {"net/softnet_stat": text})).collect())


def test_each_cpu_has_its_own_number(tmp_path: Path) -> None:
    """Offline CPUs have no line: the second line is of CPU 2."""
    assert readings(SoftnetCollector(write(tmp_path, FILES) / "proc").collect()) == {
        "softnet_processed_total": {("0",): 9, ("2",): 11},
        "softnet_dropped_total": {("0",): 0, ("2",): 2},
        "softnet_times_squeezed_total": {("0",): 0, ("2",): 4},
    }


def test_kernels_that_do_not_number_cpus(tmp_path: Path) -> None:
    """Before Linux 5.10 the line's place is the number."""
    lines = f"000000ff 1 2{' 0' * 8}\n0000000a 3 4{' 0' * 8}\n"
    assert measured(tmp_path, lines)["softnet_processed_total"] == {("0",): 255, ("1",): 10}


@pytest.mark.parametrize("odd", ["1 2\n", "x 1 2\n", "-1 1 2\n", "\udcff\n"])
def test_an_odd_line_costs_only_itself(odd: str, tmp_path: Path) -> None:
    """The other CPUs are there."""
    text = odd.encode("utf-8", "replace").decode() + "1 2 3\n"
    assert set(measured(tmp_path, text)) == {
        f"softnet_{name}_total" for name in ("processed", "dropped", "times_squeezed")
    }


@pytest.mark.parametrize("text", ["", "\n"])
def test_no_cpu_is_unavailable(text: str, tmp_path: Path) -> None:
    """An empty file has nothing to measure."""
    with pytest.raises(Unavailable):
        measured(tmp_path, text)


def test_this_machine() -> None:
    """On the real machine each CPU has processed something, or nothing yet."""
    read = readings_or_reason(create(CollectorOptions(), CollectorContext()))
    assert isinstance(read, str) or sum(read["softnet_processed_total"].values()) > 0
