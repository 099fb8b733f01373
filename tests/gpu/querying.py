"""Asking the collector about the stand-in's GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.gpu.processes import ProcessNames
from tests.gpu.driver import address, uuid
from tests.support.readings import readings

if TYPE_CHECKING:
    from pathlib import Path

    from modelhost_exporter.collectors import gpu
    from tests.gpu.conftest import Clock
    from tests.support.readings import Readings

FIRST = ("0", uuid(0))
SECOND = ("1", uuid(1))
NAME = "NVIDIA H100 80GB HBM3"


def of_first(read: Readings, name: str) -> dict[tuple[str, ...], float]:
    """Return one family's values of the first GPU by the labels beyond gpu and uuid."""
    return {labels[2:]: value for labels, value in read.get(f"gpu_{name}", {}).items() if labels[:2] == FIRST}


def collected(collector: gpu.GpuCollector, clock: Clock | None = None) -> Readings:
    """Collect once; with a clock twice, ten seconds apart, so that means since the reading before are there."""
    first = readings(collector.collect())
    if clock is None:
        return first
    clock.seconds += 10
    return readings(collector.collect())


def put_to_sleep(sysfs: Path, index: int, status: str = "suspended", control: str = "auto") -> None:
    """Make the kernel say that a card sleeps (or not), and the driver that it can."""
    folder = sysfs / "bus/pci/devices" / address(index) / "power"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "runtime_status").write_text(f"{status}\n")
    (folder / "control").write_text(f"{control}\n")
    (sysfs / "bus/pci/drivers/nvidia" / address(index)).mkdir(parents=True, exist_ok=True)
    runtime_d3(sysfs.parent / "proc", index, "Enabled (fine-grained)")


def runtime_d3(procfs: Path, index: int, says: str) -> None:
    """Make the driver say whether it can put a card to sleep; '' for one that does not say."""
    file = procfs / "driver/nvidia/gpus" / address(index) / "power"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"Runtime D3 status:          {says}\nVideo Memory:               Active\n" if says else "")


def named(names: dict[int, str]) -> ProcessNames:
    """Return names for these processes."""
    return ProcessNames(names.get)
