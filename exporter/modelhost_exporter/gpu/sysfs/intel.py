"""Intel's GPUs through the files of i915 and xe in sysfs.

Sources: Linux Documentation/ABI/testing/sysfs-driver-intel-i915-hwmon, sysfs-driver-intel-xe-hwmon, gpu/xe/xe_gt_freq,
gpu/xe/xe_gt_idle. Utilisation is the share of time in which the GPU was awake: the time in which it worked is provided
through perf only, which needs privileges. The PCIe link is left out: its files describe the link to the switch on the
card (2.5 GT/s, one lane), whatever the link to the slot is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.gpu import families
from modelhost_exporter.gpu.contract import Value
from modelhost_exporter.gpu.sysfs.cards import CardMemory, SysfsVendor
from modelhost_exporter.gpu.sysfs.folder import SysfsFolder, pci_name, ratio
from modelhost_exporter.gpu.sysfs.hwmon import temperatures

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from modelhost_exporter.gpu.sysfs.drm_clients import DrmMemory

_MILLI, _MICRO, _MEGA = 1e-3, 1e-6, 1e6
_DOMAINS = {"gt0": "graphics", "gt1": "media"}
_SENSORS = {"pkg": "gpu", "vram": "memory", "temp1": "gpu"}
_LIMITS = {"crit": "critical"}


def _read(card: SysfsFolder, device: SysfsFolder) -> Iterator[Value]:
    i915, xe = card.folders("gt/gt*"), device.folders("tile0/gt*")
    for gt in i915:
        yield from _clock(gt, gt.path.name, "rps_act_freq_mhz", "rps_RP0_freq_mhz")
    for gt in xe:
        yield from _clock(SysfsFolder(gt.path / "freq0"), gt.path.name, "act_freq", "rp0_freq")
    if not i915 and not xe:  # i915 before Linux 5.18
        yield from _clock(card, "gt0", "gt_act_freq_mhz", "gt_RP0_freq_mhz")
    throttling = [*((gt, "throttle_reason_") for gt in i915), *((gt, "freq0/throttle/reason_") for gt in xe)]
    yield from _throttled(throttling)
    yield Value(
        families.MEMORY_TOTAL, (), card.number("lmem_total_bytes") or device.number("tile0/physical_vram_size_bytes")
    )
    for hwmon in device.folders("hwmon/hwmon*")[:1]:
        yield from _sensors(hwmon)


def _idle_seconds(card: SysfsFolder, device: SysfsFolder) -> dict[str, float]:
    """Return the idle time of each part (GT); without those that are never idle, since saving power is off."""
    counters = {
        **{gt.path.name: gt.number("rc6_residency_ms", _MILLI) for gt in card.folders("gt/gt*")},
        **{gt.path.name: gt.number("gtidle/idle_residency_ms", _MILLI) for gt in device.folders("tile*/gt*")},
    }
    if not counters:  # i915 before Linux 5.18
        counters["gt0"] = card.number("power/rc6_residency_ms", _MILLI)
    return {gt: idle for gt, idle in counters.items() if idle}


def _memory_of_processes(_classes: Path, _device: SysfsFolder, clients: DrmMemory) -> CardMemory:
    return CardMemory(clients.by_pid, clients.is_complete)


def _clock(folder: SysfsFolder, gt: str, current: str, highest: str) -> Iterator[Value]:
    domain = _DOMAINS.get(gt, gt)
    yield Value(families.CLOCK, (domain,), folder.number(current, _MEGA))
    yield Value(families.CLOCK_MAX, (domain,), folder.number(highest, _MEGA))


def _throttled(places: list[tuple[SysfsFolder, str]]) -> Iterator[Value]:
    """Yield 1 for each reason that holds down the clock of any part of the GPU, else 0."""
    reasons: dict[str, float] = {}
    for folder, prefix in places:
        for path in sorted(folder.path.glob(f"{prefix}*")):
            reason = path.name.removeprefix(prefix.rpartition("/")[2])
            active = folder.number(str(path.relative_to(folder.path)))
            if active is not None and reason != "status":
                reasons[reason] = max(reasons.get(reason, 0.0), float(active > 0))
    for reason, active in reasons.items():
        yield Value(families.THROTTLED, (reason,), active)


def _sensors(hwmon: SysfsFolder) -> Iterator[Value]:
    """Yield the card's power and energy, else the package's (channels 1 and 2 of xe); temperatures and fans."""
    for family, name in (
        (families.POWER, "power{}_input"),
        (families.POWER_LIMIT, "power{}_max"),
        (families.ENERGY, "energy{}_input"),
    ):
        numbers = (hwmon.number(name.format(channel), _MICRO) for channel in (1, 2))
        yield Value(family, (), next((number for number in numbers if number), None))
    yield from temperatures(hwmon, _SENSORS, _LIMITS)
    for path in sorted(hwmon.path.glob("fan[1-9]_max")):
        number = path.name.removeprefix("fan").removesuffix("_max")
        yield Value(
            families.FAN, (str(int(number) - 1),), ratio(hwmon.number(f"fan{number}_input"), hwmon.number(path.name))
        )


INTEL = SysfsVendor(
    "intel",
    frozenset({"i915", "xe"}),
    _read,
    lambda device: f"Intel {pci_name(device)}",
    lambda _device: None,
    _memory_of_processes,
    _idle_seconds,
)
