"""Which GPUs the system has suspended (PCI runtime power management), read without waking them."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from modelhost_exporter.linux.kernel_files import first_page

if TYPE_CHECKING:
    from pathlib import Path


_STATUS = re.compile(r"Runtime D3 status:[ \t]*+(\S+)")


def is_suspended(device: Path) -> bool:
    """Return whether a PCI device is suspended; reading this file does not wake it (Linux, power/runtime_pm.rst)."""
    return _word(device / "power/runtime_status") == "suspended"


def may_suspend(device: Path) -> bool:
    """Return whether the system may suspend a PCI device; on most servers it may not suspend GPUs."""
    return _word(device / "power/control") == "auto"


class PciDevices:
    """The PCI devices of NVIDIA's driver, by address (``0000:01:00.0``)."""

    def __init__(self, sysfs: Path, procfs: Path) -> None:
        self.devices = sysfs / "bus/pci/devices"
        """The folder of all PCI devices, those of other drivers included."""
        self._bound = sysfs / "bus/pci/drivers/nvidia"
        self._driver = procfs / "driver/nvidia/gpus"

    def addresses(self) -> list[str]:
        """Return every device's address, sorted; [] on a system without PCI (WSL2, Windows)."""
        with contextlib.suppress(OSError):
            return sorted(entry.name for entry in self._bound.iterdir() if ":" in entry.name)
        return []

    def suspended(self) -> frozenset[str]:
        """Return the addresses of suspended devices."""
        return frozenset(address for address in self.addresses() if self.is_suspended(address))

    def is_suspended(self, address: str) -> bool:
        """Return whether one device is suspended."""
        return is_suspended(self.devices / address)

    def may_suspend(self, address: str) -> bool:
        """Return whether one device may be suspended: the system permits it, and the driver supports it.

        Many distributions permit it for all; on servers and most desktops the driver then reports ``Not supported``,
        and drivers before 435 report nothing.
        """
        status = _STATUS.search(_word(self._driver / address / "power"))
        return may_suspend(self.devices / address) and status is not None and status[1] == "Enabled"


def _word(file: Path) -> str:
    return first_page(file).decode("ascii", "replace").strip()
