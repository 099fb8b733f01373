"""NVMe drives: health, wear, errors and temperature."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.collector import (
    Collector,
    CollectorContext,
    CollectorOptions,
    SimulatedHost,
    Unavailable,
    log_once,
)
from modelhost_exporter.linux.kernel_files import count_if_possible, read_if_possible
from modelhost_exporter.linux.nvme import WARNINGS, Health, parse_health, read_log
from modelhost_exporter.metrics.families import counter, gauge
from modelhost_exporter.parallel_reads import ParallelReads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

_DEVICE = "device"
_NOTE = "From the drive's health log, which needs root (CAP_SYS_ADMIN) and the device file."

INFO = gauge(
    "nvme_info",
    "1 for each drive, with its model and state, which is live unless it starts or has failed.",
    _DEVICE,
    "model",
    "serial",
    "firmware_revision",
    "state",
)
TEMPERATURE = gauge("nvme_temperature_celsius", "Temperature of the drive.", _DEVICE)
WARNING = gauge("nvme_critical_warning", "1 while the drive gives this warning, else 0.", _DEVICE, "type", note=_NOTE)
# field of Health → family
_HEALTH = {
    "spare": gauge(
        "nvme_available_spare_ratio",
        "Spare capacity that is left, as a share of the original one.",
        _DEVICE,
        note=_NOTE,
    ),
    "least_spare": gauge(
        "nvme_available_spare_threshold_ratio", "Spare capacity below which the drive warns.", _DEVICE, note=_NOTE
    ),
    "used": gauge(
        "nvme_percentage_used_ratio",
        "Part of the drive's life that is used up, by the maker's estimate.",
        _DEVICE,
        note=f"It can exceed 1. {_NOTE}",
    ),
    "read_bytes": counter("nvme_data_read_bytes", "Bytes read from the drive in its life.", _DEVICE, note=_NOTE),
    "written_bytes": counter("nvme_data_written_bytes", "Bytes written to the drive in its life.", _DEVICE, note=_NOTE),
    "busy_seconds": counter(
        "nvme_controller_busy_seconds", "Seconds in which the drive had commands to work on.", _DEVICE, note=_NOTE
    ),
    "power_cycles": counter("nvme_power_cycles", "Times that the drive was switched on.", _DEVICE, note=_NOTE),
    "power_on_seconds": counter(
        "nvme_power_on_seconds", "Time that the drive was switched on in its life.", _DEVICE, note=_NOTE
    ),
    "unsafe_shutdowns": counter(
        "nvme_unsafe_shutdowns", "Times that the drive lost power without notice.", _DEVICE, note=_NOTE
    ),
    "media_errors": counter(
        "nvme_media_errors", "Times that data could not be read or written correctly.", _DEVICE, note=_NOTE
    ),
    "error_log_entries": counter(
        "nvme_num_err_log_entries", "Entries in the drive's log of errors, harmless ones included.", _DEVICE, note=_NOTE
    ),
}
FAMILIES = (INFO, TEMPERATURE, WARNING, *_HEALTH.values())

_SLOW_SECONDS = 0.5
_WAIT_SECONDS = 1.0
_MILLIDEGREES = 1000
_COMPOSITE = ("hwmon*/temp1_input", "device/hwmon/hwmon*/temp1_input")
"""The temperature of the drive as a whole, below its folder; older kernels have it at the PCI device."""


class _Drive(NamedTuple):
    """What the drive itself reports; None where it may not be read."""

    celsius: float | None
    health: Health | None


class NvmeCollector:
    """Drives below /sys/class/nvme, and their health logs from the drives themselves.

    The kernel asks the drive for temperature and log, which may take a minute where that hangs: each drive is read in a
    thread of its own. What else is in /sys comes from the kernel's memory.
    """

    def __init__(
        self,
        sysfs: Path,
        devices: Path,
        read: Callable[[Path], bytes] | None = read_log,
        wait_seconds: float = _WAIT_SECONDS,
    ) -> None:
        self._drives = sysfs / "class/nvme"
        self._devices = devices
        self._read = read
        self._reads = ParallelReads(self._read_drive, _SLOW_SECONDS, wait_seconds)

    def collect(self) -> Iterator[Metric]:
        """Yield the drives; Unavailable without one."""
        folders = sorted(self._drives.glob("nvme[0-9]*"))
        if not folders:
            raise Unavailable("no NVMe drive")
        yield from INFO.by((_info(folder), 1) for folder in folders)
        drives = {(of.name,): each.value for of, each in self._reads.measure(folders).items() if each.value is not None}
        yield from TEMPERATURE.by((name, drive.celsius) for name, drive in drives.items())
        health = {name: drive.health for name, drive in drives.items() if drive.health is not None}
        yield from WARNING.by(
            ((*name, kind), float(is_given))
            for name, of in health.items()
            for kind, is_given in zip(WARNINGS, of.warnings, strict=True)
        )
        for field, family in _HEALTH.items():
            yield from family.by((name, getattr(of, field)) for name, of in health.items())

    def _read_drive(self, folder: Path) -> _Drive:
        health = self._health(folder.name)
        files = (file for pattern in _COMPOSITE for file in folder.glob(pattern))
        number = next((number for file in files if (number := count_if_possible(file)) is not None), None)
        celsius = number / _MILLIDEGREES if number is not None else health.celsius if health else None
        return _Drive(celsius, health)

    def _health(self, name: str) -> Health | None:
        device = self._devices / name
        try:
            return parse_health(self._read(device)) if self._read else None
        except PermissionError as error:
            log_once(str(self._devices), f"{error}: the health of NVMe drives needs root (CAP_SYS_ADMIN)")
        except (OSError, ValueError) as error:
            log_once(str(device), str(error))
        return None


def _info(folder: Path) -> tuple[str, ...]:
    files = ("model", "serial", "firmware_rev", "state")
    return folder.name, *(read_if_possible(folder / name) or "" for name in files)


def create(_options: CollectorOptions, context: CollectorContext) -> Collector:
    """Build the collector of NVMe drives."""
    read = read_log if sys.platform == "linux" else None
    return NvmeCollector(context.paths.sysfs, context.paths.rootfs / "dev", read)


def create_simulated(_options: CollectorOptions, context: CollectorContext, _host: SimulatedHost) -> Collector:
    """Build the collector for ``--demo``, which writes the same files, and logs as text."""
    sysfs = context.paths.sysfs
    return NvmeCollector(sysfs, sysfs.parent / "dev", lambda device: bytes.fromhex(device.read_text("ascii")))
