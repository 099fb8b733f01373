"""Read GPUs from IOKit's registry by the command ``ioreg``, as a property list.

Keys: the driver's PerformanceStatistics, as ``ioreg -r -c IOAccelerator`` shows them on M1 to M4.
"""

from __future__ import annotations

import math
import plistlib
import subprocess
from typing import NamedTuple
from xml.parsers.expat import ExpatError

COMMAND = ("/usr/sbin/ioreg", "-r", "-c", "IOAccelerator", "-d", "1", "-w", "0", "-a")
_TIMEOUT_SECONDS = 5.0
_MAX_BYTES = 1 << 22
_PERCENT = 100.0


class Accelerator(NamedTuple):
    """One GPU of the registry; None for what it does not report."""

    name: str
    kind: str
    """The driver's class, such as AGXAcceleratorG13X."""
    cores: int | None
    utilization: float | None
    """Share of time in which the GPU worked."""
    memory_used: float | None
    """Bytes of the host's memory that programs use on the GPU."""


def run() -> bytes:
    """Return what the command prints. Raises OSError and subprocess.SubprocessError where it fails or hangs."""
    return subprocess.run(COMMAND, capture_output=True, check=True, timeout=_TIMEOUT_SECONDS).stdout  # noqa: S603 - constant


def parse(output: bytes) -> list[Accelerator]:
    """Return the GPUs in the command's output. Raises ValueError for anything but a property list."""
    if not output.strip():
        return []  # nothing of this class
    if len(output) > _MAX_BYTES:
        raise ValueError(f"ioreg printed more than {_MAX_BYTES} bytes")
    try:
        entries = plistlib.loads(output)
    except (plistlib.InvalidFileException, ExpatError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise ValueError(f"ioreg printed no property list: {error}") from error
    return [_accelerator(entry) for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _accelerator(entry: dict[object, object]) -> Accelerator:
    statistics = entry.get("PerformanceStatistics")
    of = statistics if isinstance(statistics, dict) else {}
    percent = _number(of.get("Device Utilization %"))
    cores = _number(entry.get("gpu-core-count"))
    return Accelerator(
        name=_text(entry.get("model")) or "GPU",
        kind=_text(entry.get("IOClass")) or _text(entry.get("IOObjectClass")),
        cores=int(cores) if cores else None,
        utilization=percent / _PERCENT if percent is not None and percent <= _PERCENT else None,
        memory_used=_number(of.get("In use system memory")),
    )


def _number(value: object) -> float | None:
    """Return a number that is not negative; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < math.inf else None


def _text(value: object) -> str:
    """Return text, which some drivers store as bytes that end with a zero."""
    if isinstance(value, bytes):
        return value.partition(b"\0")[0].decode("utf-8", "replace")
    return value if isinstance(value, str) else ""
