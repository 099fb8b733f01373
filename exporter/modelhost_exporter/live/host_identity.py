"""The machine's name, operating system and CPU: what does not change while the exporter runs."""

from __future__ import annotations

import platform
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psutil

from modelhost_exporter.linux.kernel_files import first_page

if TYPE_CHECKING:
    from pathlib import Path

    from modelhost_exporter.collector import Paths
    from modelhost_exporter.live.message import HostIdentity

_CPUINFO_BYTES = 4096
"""The first CPU's entry; the whole file takes a machine with hundreds of CPUs a while to write."""
_CPU_MODEL = re.compile(r"^(?:model name|Processor|cpu model)[ \t]*:[ \t]*(\S[^\n]{0,200})", re.MULTILINE)
_PRETTY_NAME = re.compile(r"^PRETTY_NAME=[\"']?([^\"'\n]{1,200})", re.MULTILINE)
_BLANKS = re.compile(r"\s+")


def host_identity(paths: Paths) -> HostIdentity:
    """Return the identity of the machine whose files are at these paths; blocks for a moment."""
    return {
        "name": platform.node(),
        "system": platform.system(),
        "release": distribution(paths.rootfs),
        "kernel": platform.release(),
        "cpuModel": cpu_model(paths.procfs),
        "bootTime": iso(_boot_time()),
    }


def distribution(rootfs: Path) -> str | None:
    """Return the name of the distribution (os-release(5)); None where there is no such file."""
    for file in ("etc/os-release", "usr/lib/os-release"):
        if found := _PRETTY_NAME.search(_text(rootfs / file)):
            return found[1].strip()
    return None


def cpu_model(procfs: Path) -> str | None:
    """Return the model of the first CPU; None where the kernel does not report it, as on most Arm machines."""
    found = _CPU_MODEL.search(_text(procfs / "cpuinfo"))
    return _BLANKS.sub(" ", found[1]).strip() if found else None


def iso(when: float | None) -> str | None:
    """Return a time in seconds since 1970 as ISO 8601."""
    return (
        None if when is None else datetime.fromtimestamp(when, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    )


def _text(file: Path) -> str:
    return first_page(file, _CPUINFO_BYTES).decode("utf-8", "replace")


def _boot_time() -> float | None:
    try:
        return float(psutil.boot_time())
    except (OSError, RuntimeError, psutil.Error):
        return None
