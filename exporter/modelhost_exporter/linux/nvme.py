"""The health of NVMe drives (SMART / Health Information log; NVM Express Base Specification, Get Log Page)."""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

LOG_BYTES = 512
WARNINGS = ("available_spare", "temperature", "reliability", "read_only", "volatile_backup", "persistent_memory")
"""The bits of the critical warning, from the lowest."""

COMMAND = struct.Struct("=BBHIIIQQIIIIIIIIII")
"""struct nvme_passthru_cmd of include/uapi/linux/nvme_ioctl.h."""
ADMIN_COMMAND = 0xC0484E41
"""NVME_IOCTL_ADMIN_CMD, the same on every architecture that Linux has NVMe drives on but for powerpc and mips."""
_GET_LOG_PAGE, _SMART, _ALL_NAMESPACES = 0x02, 0x02, 0xFFFFFFFF
_TIMEOUT_MILLISECONDS = 10_000
_UNIT_BYTES = 512_000
_ZERO_CELSIUS = 273


class Health(NamedTuple):
    """The log of a drive; ratios can exceed 1."""

    warnings: tuple[bool, ...]
    celsius: float
    spare: float
    least_spare: float
    used: float
    read_bytes: float
    written_bytes: float
    busy_seconds: float
    power_cycles: float
    power_on_seconds: float
    unsafe_shutdowns: float
    media_errors: float
    error_log_entries: float


def parse_health(log: bytes) -> Health:
    """Parse the log; ValueError where it is shorter than the specification says."""
    if len(log) < LOG_BYTES:
        raise ValueError(f"a health log of {len(log)} bytes")
    bits, celsius, spare, least_spare, used = struct.unpack_from("<BHBBB", log)
    (read, written, _reads, _writes, busy, cycles, hours, unsafe, media, entries) = (
        float(int.from_bytes(log[at : at + 16], "little")) for at in range(32, 192, 16)
    )
    return Health(
        tuple(bool(bits & 1 << bit) for bit in range(len(WARNINGS))),
        celsius - _ZERO_CELSIUS,
        spare / 100,
        least_spare / 100,
        used / 100,
        read * _UNIT_BYTES,
        written * _UNIT_BYTES,
        busy * 60,
        cycles,
        hours * 3600,
        unsafe,
        media,
        entries,
    )


def read_log(device: Path) -> bytes:
    """Read the log of a drive such as /dev/nvme0. Raises PermissionError without CAP_SYS_ADMIN, OSError on failure."""
    log = ctypes.create_string_buffer(LOG_BYTES)
    length = (LOG_BYTES // 4 - 1) << 16 | _SMART
    command = COMMAND.pack(
        *(_GET_LOG_PAGE, 0, 0, _ALL_NAMESPACES, 0, 0),
        *(0, ctypes.addressof(log), 0, LOG_BYTES),
        *(length, 0, 0, 0, 0, 0),
        *(_TIMEOUT_MILLISECONDS, 0),
    )
    descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        status = fcntl.ioctl(descriptor, ADMIN_COMMAND, bytearray(command))
    finally:
        os.close(descriptor)
    if status:
        raise OSError(f"{device}: the drive refuses its health log (status {status:#x})")
    return log.raw
