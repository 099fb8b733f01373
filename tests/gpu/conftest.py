"""Fixtures for the tests of GPUs."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from modelhost_exporter.collectors import gpu
from modelhost_exporter.gpu.nvidia.device import DeviceDependencies
from modelhost_exporter.gpu.nvidia.nvml import Nvml
from modelhost_exporter.gpu.nvidia.source import NvidiaSource
from modelhost_exporter.gpu.nvidia.xid import XidMonitor
from modelhost_exporter.gpu.processes import ProcessNames
from modelhost_exporter.gpu.runtime_suspend import PciDevices
from tests.support.programs import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.gpu.driver import Driver


class Clock:
    """A clock that stands still; a test adds to its ``seconds``."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.seconds


class MakeGpu(Protocol):
    """A function that makes a collector of the stand-in's GPUs; it is closed when the test ends."""

    def __call__(self, options: gpu.GpuOptions | None = None, **dependencies: Any) -> gpu.GpuCollector:
        """Make a collector; ``dependencies`` replaces some of its dependencies."""
        ...


@pytest.fixture
def clock() -> Clock:
    """Return a clock."""
    return Clock()


@pytest.fixture
def make_gpu(driver: Driver, tmp_path: Path, clock: Clock) -> Iterator[MakeGpu]:
    """Return a function that makes collectors; none of them samples in a thread unless ``sample_seconds`` is given."""
    with contextlib.ExitStack() as stack:

        def make(options: gpu.GpuOptions | None = None, **dependencies: Any) -> gpu.GpuCollector:
            nvml = dependencies.pop("nvml", None) or Nvml()
            settings: dict[str, Any] = {
                "xids": XidMonitor(nvml, lambda: 1.8e9, wait_ms=10),
                "pci": PciDevices(tmp_path / "sys", tmp_path / "proc"),
                "names": ProcessNames(lambda pid: f"program {pid}"),
                "clock": clock,
                "now": lambda: 1.8e9,
                "sample_seconds": 1e6,
                **dependencies,
            }
            collector = gpu.GpuCollector(
                {"nvidia": NvidiaSource(DeviceDependencies(nvml, **settings))}, options or gpu.GpuOptions()
            )

            def end() -> None:
                collector.close()
                driver.forget_all()
                wait_until(nvml.close, "no call into the driver is under way")

            stack.callback(end)
            return collector

        yield make
