"""The GPU of a Jetson (Tegra, Orin) through sysfs: NVML reports zeros or garbage there, or is missing.

Sources: NVIDIA's Jetson Linux Developer Guide (devfreq, INA3221 power rails, thermal zones), and Jetson boards' sysfs.
Thor (JetPack 7) has no file ``load``; there NVML reports the utilisation.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from modelhost_exporter.collector import Unavailable
from modelhost_exporter.gpu import families
from modelhost_exporter.gpu.contract import Enumeration, Identity, NotAnswering, Value
from modelhost_exporter.gpu.sysfs.folder import SysfsFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from modelhost_exporter.metrics.families import Family

_PER_MILLE, _MILLI = 1e-3, 1e-3
_ZONES = frozenset({"gpu-thermal", "GPU-therm"})
# name of the chip in the kernel's devices → CUDA's compute capability
_CAPABILITIES = {"gm20b": "5.3", "gp10b": "6.2", "gv11b": "7.2", "ga10b": "8.7"}
_RAILS = 3  # of an INA3221
_GPU_RAIL = "GPU"


def find_load(sysfs: Path) -> SysfsFolder | None:
    """Return the folder of the device with the file ``load``; None on a machine without such a GPU."""
    devices = [SysfsFolder(folder.path / "device") for folder in SysfsFolder(sysfs / "class/devfreq").folders("*")]
    devices += SysfsFolder(sysfs / "devices").folders("gpu.0")
    return next((device for device in devices if device.number("load") is not None), None)


class TegraSource:
    """The one GPU of a Jetson."""

    def __init__(self, sysfs: Path, host_memory: Callable[[], int]) -> None:
        """Prepare; ``host_memory`` returns the memory of the machine in bytes. Raises Unavailable without a Jetson."""
        device = find_load(sysfs)
        if device is None:
            raise Unavailable("no GPU of a Jetson")
        self._gpu = _TegraGpu(sysfs, device, host_memory)

    def unavailable_reason(self) -> str:
        """Return '' always: the GPU is part of the chip."""
        return ""

    def enumerate(self) -> Enumeration:
        """Return the GPU."""
        return Enumeration([self._gpu])

    def driver_values(self) -> Iterable[tuple[Family, float]]:
        """Return nothing: the driver is part of the kernel."""
        return ()

    def close(self) -> None:
        """Do nothing: there are no threads."""


class _TegraGpu:
    """The GPU of a Jetson."""

    suspended = False
    polling_paused = False
    memory_by_pid = None

    def __init__(self, sysfs: Path, device: SysfsFolder, host_memory: Callable[[], int]) -> None:
        self._sysfs = sysfs
        self._device = device
        self._host_memory = host_memory
        chip = device.path.resolve().name
        model = SysfsFolder(sysfs / "firmware/devicetree/base").text("model") or "NVIDIA Jetson"
        self.identity = Identity(
            gpu="0",
            uuid=chip,
            vendor="nvidia",
            name=model.rstrip("\0"),
            driver_version=platform.release(),
            compute_capability=next((number for name, number in _CAPABILITIES.items() if name in chip), ""),
        )

    def read(self) -> list[Value]:
        """Read every file. Raises NotAnswering when the load cannot be read."""
        load = self._device.number("load", _PER_MILLE)
        if load is None:
            raise NotAnswering(f"{self._device.path / 'load'} cannot be read")
        return [
            Value(families.UTILIZATION, (), load if 0 <= load <= 1 else None),
            Value(families.UNIFIED_MEMORY, (), 1),
            Value(families.MEMORY_TOTAL, (), self._host_memory()),
            *self._clock(),
            *self._temperature(),
            Value(families.POWER, (), self._power()),
        ]

    def accumulated(self) -> Iterable[Value]:
        """Return nothing: no driver's samples are added up."""
        return ()

    def _clock(self) -> Iterator[Value]:
        for devfreq in self._device.folders("devfreq/*")[:1]:
            yield Value(families.CLOCK, ("graphics",), devfreq.number("cur_freq"))
            yield Value(families.CLOCK_MAX, ("graphics",), devfreq.number("max_freq"))

    def _temperature(self) -> Iterator[Value]:
        for zone in SysfsFolder(self._sysfs / "class/thermal").folders("thermal_zone*"):
            if zone.text("type") in _ZONES:
                yield Value(families.TEMPERATURE, ("gpu",), zone.number("temp", _MILLI))

    def _power(self) -> float | None:
        """Return the power of the rails that feed the GPU, which may feed other parts of the chip too."""
        powers = []
        for hwmon in SysfsFolder(self._sysfs / "class/hwmon").folders("hwmon*"):
            for rail in range(1, _RAILS + 1) if hwmon.text("name") == "ina3221" else ():
                volts, amperes = (hwmon.number(f"{what}{rail}_input", _MILLI) for what in ("in", "curr"))
                if _GPU_RAIL in (hwmon.text(f"in{rail}_label") or "") and volts is not None and amperes is not None:
                    powers.append(volts * amperes)
        return sum(powers) if powers else None
