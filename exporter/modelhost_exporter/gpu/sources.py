"""The sources of GPUs by vendor. A vendor's modules are imported only on a machine that may have such a GPU."""

from __future__ import annotations

import platform
import time
from typing import TYPE_CHECKING

import psutil

from modelhost_exporter.collector import Unavailable, Undetermined
from modelhost_exporter.gpu.nvidia import library, pci_cards
from modelhost_exporter.gpu.sysfs import tegra

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from modelhost_exporter.collector import Paths
    from modelhost_exporter.gpu.contract import Enumeration, GpuSource
    from modelhost_exporter.gpu.sysfs.cards import SysfsVendor
    from modelhost_exporter.metrics.families import Family

_RETRY_SECONDS = 60.0


class LazySource:
    """A source that is created when it is available: until then ``create`` raises Unavailable, once a minute."""

    def __init__(self, create: Callable[[], GpuSource], clock: Callable[[], float] = time.monotonic) -> None:
        self._create = create
        self._clock = clock
        self._source: GpuSource | None = None
        self._absence = Unavailable()
        self._tried_at: float | None = None

    def unavailable_reason(self) -> str:
        """Return why there is no source; '' once there is, and where ``enumerate`` raises Undetermined."""
        if self._source is None and (self._tried_at is None or self._clock() - self._tried_at >= _RETRY_SECONDS):
            self._tried_at = self._clock()
            try:
                self._source = self._create()
            except Unavailable as absence:
                self._absence = absence.with_traceback(None)
        if self._source is not None:
            return self._source.unavailable_reason()
        return "" if isinstance(self._absence, Undetermined) else str(self._absence)

    def enumerate(self) -> Enumeration:
        """Return the source's GPUs. Raises Unavailable where there is no source."""
        if self._source is None:
            raise self._absence.with_traceback(None)  # its traceback would grow with each raise
        return self._source.enumerate()

    def driver_values(self) -> Iterable[tuple[Family, float]]:
        """Return the source's driver values; none before there is a source."""
        return self._source.driver_values() if self._source else ()

    def close(self) -> None:
        """End the source's threads."""
        if self._source is not None:
            self._source.close()


def all_of(paths: Paths, owner_of: Callable[[int], str | None] | None = None) -> dict[str, GpuSource]:
    """Return every source by vendor; ``owner_of`` returns the configured server that a process (PID) belongs to."""
    return {
        "nvidia": LazySource(lambda: _nvidia(paths, owner_of)),
        "tegra": LazySource(lambda: _tegra(paths)),
        "apple": LazySource(_apple),
        "amd": LazySource(lambda: _amd(paths, owner_of)),
        "intel": LazySource(lambda: _intel(paths, owner_of)),
    }


def _nvidia(paths: Paths, owner_of: Callable[[int], str | None] | None) -> GpuSource:
    if tegra.find_load(paths.sysfs) is not None:
        raise Unavailable("the GPU of a Jetson is read without NVML")
    if not library.exists():
        raise pci_cards.absence(paths.sysfs / "bus/pci/devices", library.MISSING)
    from modelhost_exporter.gpu.nvidia.device import DeviceDependencies  # noqa: PLC0415 - likewise
    from modelhost_exporter.gpu.nvidia.nvml import Nvml  # noqa: PLC0415 - likewise
    from modelhost_exporter.gpu.nvidia.source import NvidiaSource  # noqa: PLC0415 - only on machines with the driver's library
    from modelhost_exporter.gpu.nvidia.xid import XidMonitor  # noqa: PLC0415 - likewise
    from modelhost_exporter.gpu.processes import ProcessNames  # noqa: PLC0415 - likewise
    from modelhost_exporter.gpu.runtime_suspend import PciDevices  # noqa: PLC0415 - likewise

    nvml = Nvml()
    names = ProcessNames(owner_of) if owner_of else ProcessNames()
    return NvidiaSource(DeviceDependencies(nvml, XidMonitor(nvml), PciDevices(paths.sysfs, paths.procfs), names))


def _tegra(paths: Paths) -> GpuSource:
    return tegra.TegraSource(paths.sysfs, lambda: int(psutil.virtual_memory().total))


def _apple() -> GpuSource:
    if platform.system() != "Darwin":
        raise Unavailable("no Mac")
    from modelhost_exporter.gpu.apple import ioreg  # noqa: PLC0415 - only on a Mac
    from modelhost_exporter.gpu.apple.source import AppleDependencies, AppleSource  # noqa: PLC0415 - likewise

    version = f"macOS {platform.mac_ver()[0]}"
    return AppleSource(AppleDependencies(ioreg.run, lambda: int(psutil.virtual_memory().total), version))


def _amd(paths: Paths, owner_of: Callable[[int], str | None] | None) -> GpuSource:
    _require_cards(paths, "amd")
    from modelhost_exporter.gpu.sysfs.amd import AMD  # noqa: PLC0415 - only on machines with a card

    return _sysfs_cards(AMD, paths, owner_of)


def _intel(paths: Paths, owner_of: Callable[[int], str | None] | None) -> GpuSource:
    _require_cards(paths, "intel")
    from modelhost_exporter.gpu.sysfs.intel import INTEL  # noqa: PLC0415 - likewise

    return _sysfs_cards(INTEL, paths, owner_of)


def _sysfs_cards(vendor: SysfsVendor, paths: Paths, owner_of: Callable[[int], str | None] | None) -> GpuSource:
    from modelhost_exporter.gpu.processes import ProcessNames  # noqa: PLC0415 - likewise
    from modelhost_exporter.gpu.sysfs.cards import CardDependencies, SysfsCards  # noqa: PLC0415 - likewise
    from modelhost_exporter.gpu.sysfs.drm_clients import DrmClients  # noqa: PLC0415 - likewise

    names = ProcessNames(owner_of) if owner_of else ProcessNames()
    shared = CardDependencies(DrmClients(paths.procfs, time.monotonic), names, time.monotonic)
    return SysfsCards(vendor, paths.sysfs, shared)


def _require_cards(paths: Paths, vendor: str) -> None:
    if not any((paths.sysfs / "class/drm").glob("card[0-9]*")):
        raise Unavailable(f"no {vendor} GPU")
