"""Memory of an AMD GPU by process, as ROCm's driver (KFD) reports it in sysfs, without querying the GPU.

Source: Linux drivers/gpu/drm/amd/amdkfd, kfd_process.c (``proc/PID/vram_GPUID``) and kfd_topology.c.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from modelhost_exporter.gpu.sysfs.folder import SysfsFolder

if TYPE_CHECKING:
    from pathlib import Path

_PROPERTY = re.compile(r"^(\w{1,64}) (\d{1,20})$", re.MULTILINE)
_NUMBER = re.compile(r"[0-9]{1,20}")
UNLISTED_PID = 0
"""Stands for memory that no process is known to hold, such as the driver's. No process has this ID."""


def memory_by_pid(kfd: Path, address: str) -> dict[int, float] | None:
    """Return memory in bytes by process ID of the GPU at a PCI address.

    None without KFD, for a GPU that shares the processor's memory, and for one that is divided into several.
    """
    folder = SysfsFolder(kfd)
    nodes = [node for node in folder.folders("topology/nodes/*") if _address(_properties(node)) == address]
    if len(nodes) != 1 or _properties(nodes[0]).get("cpu_cores_count"):
        return None
    gpu = nodes[0].text("gpu_id") or ""
    held: dict[int, float] = {}
    for process in folder.folders("proc/*"):
        memory = process.text(f"vram_{gpu}") or ""
        if _NUMBER.fullmatch(process.path.name) and _NUMBER.fullmatch(memory) and int(memory):
            held[int(process.path.name)] = float(memory)
    return held


def _properties(node: SysfsFolder) -> dict[str, int]:
    return {name: int(value) for name, value in _PROPERTY.findall(node.text("properties") or "")}


def _address(properties: dict[str, int]) -> str:
    """Return a PCI address as the kernel writes it; '' for a node that is no GPU."""
    location = properties.get("location_id", 0)
    if not properties.get("simd_count"):
        return ""
    bus, device, function = location >> 8 & 0xFF, location >> 3 & 0x1F, location & 7
    return f"{properties.get('domain', 0):04x}:{bus:02x}:{device:02x}.{function}"
