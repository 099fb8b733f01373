"""AMD's GPUs through amdgpu's files in sysfs.

Source: Linux Documentation/gpu/amdgpu/thermal.rst and driver-misc.rst. pcie_bw is not read, since reading takes a
second. Memory by process comes from ROCm's driver (kfd.py), and for programs that use Vulkan from their open files.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from modelhost_exporter.gpu import families
from modelhost_exporter.gpu.contract import Value
from modelhost_exporter.gpu.sysfs import kfd
from modelhost_exporter.gpu.sysfs.cards import CardMemory, SysfsVendor
from modelhost_exporter.gpu.sysfs.folder import SysfsFolder, pci_name, ratio
from modelhost_exporter.gpu.sysfs.hwmon import temperatures

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from modelhost_exporter.gpu.sysfs.drm_clients import DrmMemory

_MICRO, _MEGA, _PERCENT = 1e-6, 1e6, 0.01
# GT/s → generation; source: PCI Express Base Specification
_GENERATIONS = {2.5: 1, 5.0: 2, 8.0: 3, 16.0: 4, 32.0: 5, 64.0: 6}
_VENDOR = "0x1002"  # AMD's GPUs and their switches; its processors and chipsets have another
_CLOCKS = {"graphics": "pp_dpm_sclk", "memory": "pp_dpm_mclk"}
_SENSORS = {"mem": "memory"}
_LIMITS = {"crit": "critical", "emergency": "emergency"}
_LEVEL = re.compile(r"^[ \t]*+\w++:[ \t]*+(\d{1,6})[ \t]*+MHz[ \t]*+(\*?)", re.MULTILINE | re.IGNORECASE)
_SPEED = re.compile(r"\d{1,3}(?:\.\d{1,3})?")
_ERRORS = re.compile(r"(ue|ce):[ \t]*+(\d{1,20})")
_FORMAT_REVISION, _APU_FORMATS = 2, (b"\x02", b"\x03")  # of the header: size (2 bytes), format, content


def _read(_card: SysfsFolder, device: SysfsFolder) -> Iterator[Value]:
    yield Value(families.UTILIZATION, (), _share(device, "gpu_busy_percent"))
    yield Value(families.MEMORY_UTILIZATION, (), _share(device, "mem_busy_percent"))
    yield from _memory(device)
    yield from _clocks(device)
    yield from _link(device)
    yield Value(families.PCIE_REPLAYS, (), device.number("pcie_replay_count"))
    yield from _ecc(device)
    for hwmon in device.folders("hwmon/hwmon*")[:1]:
        yield from temperatures(hwmon, _SENSORS, _LIMITS)
        yield from _power_and_fan(hwmon)


def _share(device: SysfsFolder, name: str) -> float | None:
    """Return a percentage as a ratio; None above 100 %: some chips report 655 % for 'not available'."""
    share = device.number(name, _PERCENT)
    return share if share is not None and share <= 1 else None


def _memory(device: SysfsFolder) -> Iterator[Value]:
    """Yield the card's own memory; for a GPU in the processor, with the part of the host's that it may use (GTT)."""
    total, used = device.number("mem_info_vram_total"), device.number("mem_info_vram_used")
    if _is_apu(device):
        total = _sum(total, device.number("mem_info_gtt_total"))
        used = _sum(used, device.number("mem_info_gtt_used"))
        yield Value(families.UNIFIED_MEMORY, (), 1)
    yield Value(families.MEMORY_TOTAL, (), total or None)
    yield Value(families.MEMORY_USED, (), used)
    yield Value(families.MEMORY_FREE, (), total - used if total and used is not None else None)


def _is_apu(device: SysfsFolder) -> bool:
    """Return whether the GPU is part of the processor: its gpu_metrics have another format (kgd_pp_interface.h)."""
    return device.start("gpu_metrics", 4)[_FORMAT_REVISION:][:1] in _APU_FORMATS


def _sum(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first + second


def _clocks(device: SysfsFolder) -> Iterator[Value]:
    for domain, name in _CLOCKS.items():
        current, highest = parse_clocks(device.text(name) or "")
        yield Value(families.CLOCK, (domain,), current)
        yield Value(families.CLOCK_MAX, (domain,), highest)


def parse_clocks(text: str) -> tuple[float | None, float | None]:
    """Return the current and the highest clock in hertz from lines such as ``1: 1200Mhz *``."""
    levels = _LEVEL.findall(text)
    current = next((int(megahertz) * _MEGA for megahertz, star in levels if star), None)
    return current, max((int(megahertz) * _MEGA for megahertz, _ in levels), default=None)


def _link(device: SysfsFolder) -> Iterator[Value]:
    """Yield the state of the PCIe link to the slot, and the best that both card and slot allow."""
    card = _slot_end(device)
    slot = SysfsFolder(card.path.parent)
    for family, most, of in (
        (families.PCIE_GENERATION, families.PCIE_GENERATION_MAX, _generation),
        (families.PCIE_WIDTH, families.PCIE_WIDTH_MAX, _width),
    ):
        yield Value(family, (), of(card, "current"))
        yield Value(most, (), min(filter(None, (of(card, "max"), of(slot, "max"))), default=None))


def _generation(end: SysfsFolder, which: str) -> float | None:
    speed = _SPEED.match(end.text(f"{which}_link_speed") or "")
    return _GENERATIONS.get(float(speed[0])) if speed else None


def _width(end: SysfsFolder, which: str) -> float | None:
    width = end.number(f"{which}_link_width")
    return width if width and width <= 64 else None  # noqa: PLR2004 - 255 is 'unknown'


def _slot_end(device: SysfsFolder) -> SysfsFolder:
    """Return the card's end of the link to the slot; a switch on the card is between it and the chip.

    Source: Linux drivers/gpu/drm/amd/amdgpu/amdgpu_device.c, "switches internal to dGPU".
    """
    path = device.path.resolve()
    while SysfsFolder(path.parent).text("vendor") == _VENDOR:
        path = path.parent
    return SysfsFolder(path)


def _ecc(device: SysfsFolder) -> Iterator[Value]:
    """Yield the errors of all blocks, where the kernel has RAS; its files contain ``ue: 0`` and ``ce: 0``."""
    counts = {"ue": [0.0], "ce": [0.0]}
    files = sorted(path.name for path in (device.path / "ras").glob("*_err_count"))
    for name in files:
        for kind, count in _ERRORS.findall(SysfsFolder(device.path / "ras").text(name) or ""):
            counts[kind].append(float(count))
    for kind, label in (("ce", "corrected"), ("ue", "uncorrected")):
        yield Value(families.ECC_ERRORS, (label,), sum(counts[kind]) if len(counts[kind]) > 1 else None)


def _power_and_fan(hwmon: SysfsFolder) -> Iterator[Value]:
    average = hwmon.number("power1_average", _MICRO)
    yield Value(families.POWER, (), hwmon.number("power1_input", _MICRO) if average is None else average)
    yield Value(families.POWER_LIMIT, (), hwmon.number("power1_cap", _MICRO) or None)
    yield Value(families.ENERGY, (), hwmon.number("energy1_input", _MICRO))
    if hwmon.number("fan1_input") is not None:
        yield Value(families.FAN, ("0",), ratio(hwmon.number("pwm1"), hwmon.number("pwm1_max")))


def _memory_of_processes(classes: Path, device: SysfsFolder, clients: DrmMemory) -> CardMemory:
    """Return the memory of processes; what no process is known for belongs to ``UNLISTED_PID``.

    The files of a ROCm program may have the memory that ROCm's driver lists, or a part of it.
    """
    used = device.number("mem_info_vram_used")
    if _is_apu(device) or used is None:  # GPU memory of an APU's processes is part of the host's
        return CardMemory({}, is_complete=False)
    listed = kfd.memory_by_pid(classes / "kfd/kfd", device.path.resolve().name)
    if listed is None and not clients.by_pid:
        return CardMemory({}, is_complete=False)
    pids = {*(listed or {}), *clients.by_pid}
    held = {pid: max((listed or {}).get(pid, 0.0), clients.by_pid.get(pid, 0.0)) for pid in pids}
    unlisted = used - sum(held.values())
    if unlisted > 0:
        held[kfd.UNLISTED_PID] = unlisted
    return CardMemory(held, is_complete=True)


def _uuid(device: SysfsFolder) -> str | None:
    """Return the chip's unique ID in ROCm's form; None for older chips, which have none or report 0."""
    unique = device.text("unique_id")
    return f"GPU-{unique}" if unique and unique.strip("0") else None


AMD = SysfsVendor(
    "amd",
    frozenset({"amdgpu"}),
    _read,
    lambda device: device.text("product_name") or f"AMD {pci_name(device)}",
    _uuid,
    _memory_of_processes,
)
