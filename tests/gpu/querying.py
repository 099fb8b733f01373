"""Collect the stand-in driver's GPUs, and write their power states."""

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
    """Return one family's values for the first GPU, by its labels after ``gpu`` and ``uuid``."""
    return {labels[2:]: value for labels, value in read.get(f"gpu_{name}", {}).items() if labels[:2] == FIRST}


def collected(collector: gpu.GpuCollector, clock: Clock | None = None) -> Readings:
    """Collect once; with a clock twice, ten seconds apart, so that means since the previous reading are present."""
    first = readings(collector.collect())
    if clock is None:
        return first
    clock.seconds += 10
    return readings(collector.collect())


def write_power_state(sysfs: Path, index: int, status: str = "suspended", control: str = "auto") -> None:
    """Write the files in which the kernel reports a card's runtime power state, and the driver that it can suspend."""
    folder = sysfs / "bus/pci/devices" / address(index) / "power"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "runtime_status").write_text(f"{status}\n")
    (folder / "control").write_text(f"{control}\n")
    (sysfs / "bus/pci/drivers/nvidia" / address(index)).mkdir(parents=True, exist_ok=True)
    write_runtime_d3(sysfs.parent / "proc", index, "Enabled (fine-grained)")


def write_runtime_d3(procfs: Path, index: int, status: str) -> None:
    """Write the file in which the driver reports whether it can suspend a card; '' for no such line."""
    file = procfs / "driver/nvidia/gpus" / address(index) / "power"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"Runtime D3 status:          {status}\nVideo Memory:               Active\n" if status else "")


def named(names: dict[int, str]) -> ProcessNames:
    """Return a source of process names that has only these, by pid."""
    return ProcessNames(names.get)
