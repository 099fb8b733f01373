"""Folders of small files in sysfs, and values computed from them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.linux.kernel_files import PAGE_BYTES, first_page

if TYPE_CHECKING:
    from pathlib import Path


class SysfsFolder(NamedTuple):
    """A folder of small files, any of which may be missing or unreadable."""

    path: Path

    def text(self, name: str) -> str | None:
        """Return the text of a file's first page, stripped; None where it is missing, unreadable or empty."""
        return self.start(name, PAGE_BYTES).decode("utf-8", "replace").strip() or None

    def start(self, name: str, size: int) -> bytes:
        """Return the first ``size`` bytes of a file; b'' where it is missing or unreadable."""
        return first_page(self.path / name, size)

    def number(self, name: str, unit: float = 1.0) -> float | None:
        """Return a file's number times ``unit``; None where there is none, or one that is not finite."""
        try:
            number = float(self.text(name) or "nan") * unit
        except ValueError:
            return None
        return number if math.isfinite(number) else None

    def folders(self, pattern: str) -> list[SysfsFolder]:
        """Return the folders below that match a glob pattern, sorted; [] where they cannot be listed."""
        try:
            return [SysfsFolder(path) for path in sorted(self.path.glob(pattern)) if path.is_dir()]
        except OSError:
            return []


def pci_name(device: SysfsFolder) -> str:
    """Return vendor and device as PCI IDs (``1002:744c``), for lack of a name in the kernel."""
    numbers = (device.text("vendor") or "", device.text("device") or "")
    return ":".join(number.removeprefix("0x") for number in numbers)


def ratio(part: float | None, whole: float | None) -> float | None:
    """Return part over whole; None when either is unknown."""
    return part / whole if part is not None and whole else None
