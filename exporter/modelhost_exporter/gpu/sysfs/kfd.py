"""Memory of an AMD GPU by process, as ROCm's driver (KFD) reports it in sysfs, without querying the GPU.

Source: Linux drivers/gpu/drm/amd/amdkfd, kfd_process.c (``proc/PID/vram_GPUID``) and kfd_topology.c.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from modelhost_exporter.linux.kernel_files import first_page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PROPERTY = re.compile(r"^(\w{1,64}) (\d{1,20})$", re.MULTILINE)
_NUMBER = re.compile(r"[0-9]{1,20}")
NOBODY_KNOWN = 0
"""Stands for the owners of the rest: the driver, and graphics programs, which KFD does not list. No process has it."""


def memory_by_pid(kfd: Path, address: str, used: float | None) -> dict[int, float] | None:
    """Return memory in bytes by process of the GPU at a PCI address, of which so much is ``used`` in all.

    None without KFD, for a GPU that shares the processor's memory, and for one that is divided into several.
    """
    nodes = [node for node in _folders(kfd / "topology/nodes") if _address(_properties(node)) == address]
    if len(nodes) != 1 or used is None or _properties(nodes[0]).get("cpu_cores_count"):
        return None
    gpu = _text(nodes[0] / "gpu_id")
    held: dict[int, float] = {}
    for process in _folders(kfd / "proc"):
        memory = _text(process / f"vram_{gpu}")
        if _NUMBER.fullmatch(process.name) and _NUMBER.fullmatch(memory) and int(memory):
            held[int(process.name)] = float(memory)
    rest = used - sum(held.values())
    return {**held, NOBODY_KNOWN: rest} if rest > 0 else held


def _properties(node: Path) -> dict[str, int]:
    return {name: int(value) for name, value in _PROPERTY.findall(_text(node / "properties"))}


def _address(properties: dict[str, int]) -> str:
    """Return a PCI address as the kernel writes it; '' for a node that is no GPU."""
    location = properties.get("location_id", 0)
    if not properties.get("simd_count"):
        return ""
    bus, device, function = location >> 8 & 0xFF, location >> 3 & 0x1F, location & 7
    return f"{properties.get('domain', 0):04x}:{bus:02x}:{device:02x}.{function}"


def _folders(path: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from sorted(path.iterdir())


def _text(path: Path) -> str:
    return first_page(path).decode("ascii", "replace").strip()
