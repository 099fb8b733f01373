"""NVIDIA's cards on the PCI bus, which the kernel lists without a driver: whether there is one that cannot be read."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from modelhost_exporter.collector import Unavailable, Undetermined
from modelhost_exporter.linux.kernel_files import first_page

if TYPE_CHECKING:
    from pathlib import Path

_VENDOR, _DISPLAY_CLASS = b"0x10de", b"0x03"
_NO_ACCESS = "install NVIDIA's driver, or give the container its GPUs (--gpus all)"


@cache
def has_card(devices: Path) -> bool:
    """Return whether a folder of PCI devices has a GPU of NVIDIA; False where there is no bus to list (WSL2).

    It is listed once: a server has hundreds of devices, and each scrape without a GPU needs the result.
    """
    try:
        found = list(devices.iterdir())
    except OSError:
        return False
    return any(
        first_page(device / "vendor").startswith(_VENDOR) and first_page(device / "class").startswith(_DISPLAY_CLASS)
        for device in found
    )


def absence(devices: Path, reason: str) -> Unavailable:
    """Return the error for a driver without GPUs: Undetermined where this folder of PCI devices has a card."""
    if has_card(devices):
        return Undetermined(f"an NVIDIA GPU is installed but cannot be read ({reason}): {_NO_ACCESS}")
    return Unavailable(reason)
