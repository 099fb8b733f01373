from __future__ import annotations

import math
import platform
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.collector import Paths, Unavailable
from modelhost_exporter.collectors import gpu
from modelhost_exporter.gpu import sources
from modelhost_exporter.gpu.processes import ProcessNames
from modelhost_exporter.gpu.sysfs.amd import AMD as AMD_CARDS
from modelhost_exporter.gpu.sysfs.amd import parse_clocks
from modelhost_exporter.gpu.sysfs.cards import CardDependencies, SysfsCards
from modelhost_exporter.gpu.sysfs.drm_clients import DrmClients
from modelhost_exporter.gpu.sysfs.intel import INTEL as INTEL_CARDS
from modelhost_exporter.gpu.sysfs.kfd import UNLISTED_PID
from modelhost_exporter.gpu.usage_cache import GpuUse
from tests.gpu.conftest import Clock
from tests.support.machine import write
from tests.support.readings import readings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.readings import Readings

GIB = 2**30
NO_PID = 9_999_999  # above the highest of Linux

AMD = {
    "vendor": "0x1002\n",
    "device": "0x744c\n",
    "unique_id": "9f5e1a2b3c4d5e6f\n",
    "product_name": "AMD Radeon PRO W7900\n",
    "vbios_version": "113-D7070100-100\n",
    "power/runtime_status": "active\n",
    "gpu_busy_percent": "87\n",
    "mem_busy_percent": "12\n",
    "mem_info_vram_total": f"{48 * GIB}\n",
    "mem_info_vram_used": f"{20 * GIB}\n",
    "pp_dpm_sclk": "0: 500Mhz\n1: 1760Mhz *\n2: 2495Mhz\n",
    "pp_dpm_mclk": "0: 96Mhz *\n1: 1124Mhz\n",
    "pcie_replay_count": "2\n",
    "current_link_speed": "16.0 GT/s PCIe\n",
    "max_link_speed": "32.0 GT/s PCIe\n",
    "current_link_width": "8\n",
    "max_link_width": "16\n",
    "ras/umc_err_count": "ue: 1\nce: 4\n",
    "ras/gfx_err_count": "ue: 0\nce: 2\n",
    "hwmon/hwmon3/temp1_input": "52000\n",
    "hwmon/hwmon3/temp1_label": "edge\n",
    "hwmon/hwmon3/temp1_crit": "100000\n",
    "hwmon/hwmon3/temp1_emergency": "105000\n",
    "hwmon/hwmon3/temp3_input": "60000\n",
    "hwmon/hwmon3/temp3_label": "mem\n",
    "hwmon/hwmon3/power1_average": "121000000\n",
    "hwmon/hwmon3/power1_cap": "241000000\n",
    "hwmon/hwmon3/fan1_input": "1300\n",
    "hwmon/hwmon3/pwm1": "51\n",
    "hwmon/hwmon3/pwm1_max": "255\n",
}

XE = {
    "vendor": "0x8086\n",
    "device": "0xe20b\n",
    "power/runtime_status": "active\n",
    "tile0/gt0/freq0/act_freq": "2400\n",
    "tile0/gt0/freq0/rp0_freq": "2850\n",
    "tile0/gt0/freq0/throttle/status": "1\n",
    "tile0/gt0/freq0/throttle/reason_pl1": "1\n",
    "tile0/gt0/freq0/throttle/reason_thermal": "0\n",
    "tile0/gt1/freq0/act_freq": "0\n",
    "tile0/gt1/freq0/throttle/reason_thermal": "1\n",
    "hwmon/hwmon4/energy2_input": "5000000\n",
    "hwmon/hwmon4/energy2_label": "pkg\n",
    "hwmon/hwmon4/power1_max": "190000000\n",
    "hwmon/hwmon4/temp2_input": "48000\n",
    "hwmon/hwmon4/temp2_label": "pkg\n",
    "hwmon/hwmon4/temp3_input": "50000\n",
    "hwmon/hwmon4/temp3_label": "vram\n",
    "current_link_speed": "2.5 GT/s PCIe\n",
    "current_link_width": "1\n",
}

I915_CARD = {
    "gt/gt0/rps_act_freq_mhz": "1300\n",
    "gt/gt0/rps_RP0_freq_mhz": "1450\n",
    "gt/gt0/throttle_reason_status": "1\n",
    "gt/gt0/throttle_reason_pl2": "1\n",
    "gt/gt0/throttle_reason_prochot": "0\n",
}


def plug_in(sysfs: Path, place: str, device: dict[str, str], more: dict[str, str] | None = None) -> None:
    """Write a card's files: the device's folder, and links to it and to its driver."""
    card, driver, address = place.split()
    folder = sysfs / "devices/pci0000:00" / address
    write(folder, device)
    (sysfs / "bus/pci/drivers" / driver).mkdir(parents=True, exist_ok=True)
    (folder / "driver").symlink_to(sysfs / "bus/pci/drivers" / driver)
    write(sysfs / "class/drm" / card, (more or {}) | {"uevent": ""})
    (sysfs / "class/drm" / card / "device").symlink_to(folder)


def collector(sysfs: Path) -> gpu.GpuCollector:
    """Return the collector of a machine without an NVIDIA driver."""
    found = sources.all_of(Paths(procfs=sysfs / "proc", sysfs=sysfs))
    return gpu.GpuCollector({name: found[name] for name in ("amd", "intel")}, gpu.GpuOptions())


def shared(root: Path, clock: Clock) -> CardDependencies:
    """Return what cards share on a machine without processes."""
    return CardDependencies(DrmClients(root / "proc", clock), ProcessNames(), clock, lambda: 1.8e9)


def without_device(read: Readings) -> dict[str, dict[tuple[str, ...], float]]:
    """Return the values of the per-device families by their labels after gpu and uuid."""
    return {
        name.removeprefix("gpu_"): {labels[2:]: value for labels, value in values.items()}
        for name, values in read.items()
        if () not in values
    }


def test_an_amd_card(tmp_path: Path) -> None:
    """Every file of amdgpu becomes the same family that an NVIDIA card has, in base units."""
    plug_in(tmp_path, "card1 amdgpu 0000:03:00.0", AMD)
    read = readings(collector(tmp_path).collect())
    labels = ("card1", "GPU-9f5e1a2b3c4d5e6f", "amd", "AMD Radeon PRO W7900", platform.release())
    assert read["gpu_info"] == {(*labels, "0000:03:00.0", "113-D7070100-100", ""): 1}
    expected: dict[str, dict[tuple[str, ...], float]] = {
        "up": {(): 1},
        "utilization_ratio": {(): 0.87},
        "memory_utilization_ratio": {(): 0.12},
        "memory_total_bytes": {(): 48 * GIB},
        "memory_used_bytes": {(): 20 * GIB},
        "memory_free_bytes": {(): 28 * GIB},
        "clock_hertz": {("graphics",): 1760e6, ("memory",): 96e6},
        "clock_max_hertz": {("graphics",): 2495e6, ("memory",): 1124e6},
        "pcie_link_generation": {(): 4},
        "pcie_link_generation_max": {(): 5},
        "pcie_link_width": {(): 8},
        "pcie_link_width_max": {(): 16},
        "pcie_replays_total": {(): 2},
        "ecc_errors_total": {("corrected",): 6, ("uncorrected",): 1},
        "temperature_celsius": {("edge",): 52, ("memory",): 60},
        "temperature_limit_celsius": {("edge_critical",): 100, ("edge_emergency",): 105},
        "power_watts": {(): 121},
        "power_limit_watts": {(): 241},
        "fan_speed_ratio": {("0",): 0.2},
        "fields_lost": {(): 0},
    }
    found = without_device(read)
    del found["info"]
    assert found == {name: pytest.approx(values) for name, values in expected.items()}


def test_the_link_of_an_amd_card_is_that_to_the_slot(tmp_path: Path) -> None:
    """The chip's link to the switch on the card is as fast as can be; the slot's has the lanes that there are."""
    plug_in(tmp_path, "card1 amdgpu 0000:03:00.0", AMD | {"current_link_width": "16\n"})
    port, switch = (f"devices/pci0000:00/0000:00:01.1{path}" for path in ("", "/0000:01:00.0"))
    write(tmp_path / port, {"vendor": "0x1022\n", "current_link_width": "2\n", "max_link_width": "8\n"})
    write(tmp_path / switch, {"vendor": "0x1002\n", "current_link_width": "4\n", "max_link_width": "16\n"})
    write(tmp_path / switch / "0000:02:00.0", {"vendor": "0x1002\n", "current_link_width": "16\n"})
    behind = tmp_path / switch / "0000:02:00.0" / "0000:03:00.0"
    (tmp_path / "devices/pci0000:00/0000:03:00.0").rename(behind)
    (tmp_path / "class/drm/card1/device").unlink()
    (tmp_path / "class/drm/card1/device").symlink_to(behind)
    found = without_device(readings(collector(tmp_path).collect()))
    assert (found["pcie_link_width"], found["pcie_link_width_max"]) == ({(): 4}, {(): 8})
    assert found["power_watts"] == {(): 121}


@pytest.mark.parametrize("metrics", ["\x78\x00\x02\x04", "\x08\x01\x03\x00"])
def test_an_amd_gpu_inside_the_processor(metrics: str, tmp_path: Path) -> None:
    """An APU's models are in the host's memory (GTT), which counts together with the reserved part."""
    gtt = {"mem_info_gtt_total": f"{64 * GIB}\n", "mem_info_gtt_used": f"{40 * GIB}\n", "gpu_metrics": metrics + "rest"}
    vram = {"mem_info_vram_total": f"{GIB}\n", "mem_info_vram_used": f"{GIB // 2}\n"}
    plug_in(tmp_path, "card1 amdgpu 0000:c4:00.0", AMD | gtt | vram)
    found = without_device(readings(collector(tmp_path).collect()))
    assert found["unified_memory"] == {(): 1}
    assert found["memory_total_bytes"] == {(): 65 * GIB}
    assert found["memory_used_bytes"] == {(): 40.5 * GIB}
    assert found["memory_free_bytes"] == {(): 24.5 * GIB}


@pytest.mark.parametrize(("changes", "known"), [({}, True), ({"gpu_metrics": "\x78\x00\x02\x01rest"}, False)])
def test_an_amd_card_s_processes(changes: dict[str, str], known: bool, tmp_path: Path) -> None:
    """ROCm's driver reports memory by process, and hwmon of some cards energy; an APU shares the host's memory."""
    plug_in(tmp_path, "card1 amdgpu 0000:03:00.0", AMD | {"hwmon/hwmon3/energy1_input": "7000000\n"} | changes)
    node = {"properties": f"cpu_cores_count 0\nsimd_count 96\nlocation_id {3 << 8}\ndomain 0\n", "gpu_id": "9\n"}
    write(tmp_path / "class/kfd/kfd/topology/nodes/1", node)
    write(tmp_path / "class/kfd/kfd/proc/123", {"vram_9": f"{15 * GIB}\n"})
    made = collector(tmp_path)
    list(made.collect())
    assert made.last_reading is not None
    held = {"GPU-9f5e1a2b3c4d5e6f": GpuUse(7.0, {123: 15 * GIB, 0: 5 * GIB})}
    assert dict(made.last_reading.gpus) == (held if known else {})


def test_an_amd_card_does_not_count_the_hosts_memory(tmp_path: Path) -> None:
    """A dedicated card may use the host's memory too, which is not part of its own memory."""
    gtt = {"mem_info_gtt_total": f"{64 * GIB}\n", "mem_info_gtt_used": "5\n", "gpu_metrics": "\x78\x00\x01\x03rest"}
    plug_in(tmp_path, "card1 amdgpu 0000:03:00.0", AMD | gtt)
    found = without_device(readings(collector(tmp_path).collect()))
    assert (found["memory_total_bytes"], found["memory_used_bytes"]) == ({(): 48 * GIB}, {(): 20 * GIB})
    assert "unified_memory" not in found


def test_an_intel_card_of_xe(tmp_path: Path) -> None:
    """Clocks, throttle reasons (of any part), energy, limit and temperatures; its PCIe link is not the slot's."""
    plug_in(tmp_path, "card0 xe 0000:04:00.0", XE)
    read = readings(collector(tmp_path).collect())
    found = without_device(read)
    assert found["clock_hertz"] == {("graphics",): 2400e6, ("media",): 0}
    assert found["clock_max_hertz"] == {("graphics",): 2850e6}
    assert found["throttled"] == {("pl1",): 1, ("thermal",): 1}
    assert found["energy_joules_total"] == {(): 5}
    assert found["power_limit_watts"] == {(): 190}
    assert found["temperature_celsius"] == {("gpu",): 48, ("memory",): 50}
    assert not {"pcie_link_generation", "pcie_link_width", "utilization_ratio", "power_watts"} & found.keys()
    assert next(iter(read["gpu_info"]))[:4] == ("card0", "0000:04:00.0", "intel", "Intel 8086:e20b")


def test_an_intel_gpu_of_i915(tmp_path: Path) -> None:
    """The GPU inside a processor has clocks and throttle reasons, and no families without a source."""
    plug_in(tmp_path, "card0 i915 0000:00:02.0", {"vendor": "0x8086\n", "device": "0xa780\n"}, I915_CARD)
    found = without_device(readings(collector(tmp_path).collect()))
    assert found.keys() == {"info", "up", "fields_lost", "clock_hertz", "clock_max_hertz", "throttled"}
    assert found["throttled"] == {("pl2",): 1, ("prochot",): 0}


def test_an_older_kernels_i915(tmp_path: Path) -> None:
    """Before GTs had folders the card itself had the clock."""
    card = {"gt_act_freq_mhz": "1100\n", "gt_RP0_freq_mhz": "1300\n"}
    plug_in(tmp_path, "card0 i915 0000:00:02.0", {"vendor": "0x8086\n"}, card)
    found = without_device(readings(collector(tmp_path).collect()))
    assert (found["clock_hertz"], found["clock_max_hertz"]) == ({("graphics",): 1100e6}, {("graphics",): 1300e6})


def test_two_vendors_side_by_side(tmp_path: Path) -> None:
    """Cards of both drivers are numbered together, so that no index is used twice."""
    plug_in(tmp_path, "card0 i915 0000:00:02.0", {"vendor": "0x8086\n"}, I915_CARD)
    plug_in(tmp_path, "card1 amdgpu 0000:03:00.0", AMD)
    write(tmp_path / "class/drm/card1-DP-1", {"status": "connected\n"})  # a connector is no card
    read = readings(collector(tmp_path).collect())
    assert read["gpu_devices"] == {(): 2}
    assert {labels[0] for labels in read["gpu_up"]} == {"card0", "card1"}


def test_a_suspended_card_is_not_read(tmp_path: Path) -> None:
    """A suspended card is counted; all of its files are read once it is active; it may be suspended again."""
    plug_in(tmp_path, "card1 amdgpu 0000:03:00.0", AMD)
    status = tmp_path / "devices/pci0000:00/0000:03:00.0/power/runtime_status"
    status.write_text("suspended\n")
    machine = collector(tmp_path)
    read = readings(machine.collect())
    assert {name: value[()] for name, value in read.items()} == {
        "gpu_devices": 1,
        "gpu_devices_expected": 1,
        "gpu_devices_suspended": 1,
        "gpu_devices_polling_paused": 0,
    }
    status.write_text("active\n")
    assert "gpu_power_watts" in readings(machine.collect())
    status.write_text("suspended\n")
    read = readings(machine.collect())
    assert without_device(read).keys() == {"info", "up"}
    assert read["gpu_devices_suspended"] == {(): 1}


def test_an_unused_card_is_not_polled_so_that_it_can_suspend(tmp_path: Path) -> None:
    """Where the system may suspend it, polling of an idle card without a model pauses for 30 s at times."""
    clock = Clock()
    plug_in(tmp_path, "card1 amdgpu 0000:03:00.0", AMD | {"power/control": "auto\n", "gpu_busy_percent": "0\n"})
    used = tmp_path / "devices/pci0000:00/0000:03:00.0/mem_info_vram_used"
    machine = gpu.GpuCollector({"amd": SysfsCards(AMD_CARDS, tmp_path, shared(tmp_path, clock))}, gpu.GpuOptions())
    for memory, expected in ((20 * GIB, 0), (30 * 2**20, 1)):
        used.write_text(f"{memory}\n")
        readings(machine.collect())
        read = readings(machine.collect())
        assert read["gpu_devices_polling_paused"] == {(): expected}
        assert ("gpu_power_watts" in read) != expected
    clock.seconds += 31
    assert "gpu_power_watts" in readings(machine.collect())


def test_an_intel_card_is_busy_while_it_is_awake(tmp_path: Path) -> None:
    """Utilisation and busy seconds come from its idle time, memory in use from the files of all processes."""
    clock = Clock()
    idle = {"tile0/gt0/gtidle/idle_residency_ms": "5000\n", "tile0/physical_vram_size_bytes": f"{16 * GIB}\n"}
    plug_in(tmp_path, "card0 xe 0000:04:00.0", XE | idle)
    fdinfo = "drm-client-id: 1\ndrm-pdev: 0000:04:00.0\ndrm-resident-vram0: 4096 MiB\n"
    write(tmp_path / "proc", {"2/comm": "kthreadd\n", f"{NO_PID}/fdinfo/3": fdinfo})
    for pid in ("2", str(NO_PID)):
        (tmp_path / "proc" / pid / "fd").mkdir()
    (tmp_path / f"proc/{NO_PID}/fd/3").symlink_to("/dev/dri/renderD128")
    machine = gpu.GpuCollector({"intel": SysfsCards(INTEL_CARDS, tmp_path, shared(tmp_path, clock))}, gpu.GpuOptions())
    assert "gpu_utilization_ratio" not in readings(machine.collect())
    clock.seconds += 10
    write(tmp_path / "devices/pci0000:00/0000:04:00.0", {"tile0/gt0/gtidle/idle_residency_ms": "11000\n"})
    read = without_device(readings(machine.collect()))
    assert read["utilization_ratio"] == {(): pytest.approx(0.4)}
    assert read["busy_seconds_total"] == {(): pytest.approx(4)}
    assert read["busy_updated_timestamp_seconds"] == {(): 1.8e9}
    assert (read["memory_used_bytes"], read["memory_free_bytes"]) == ({(): 4 * GIB}, {(): 12 * GIB})
    assert read["process_memory_bytes"] == {("unknown",): 4 * GIB}
    assert machine.last_reading is not None
    assert machine.last_reading.gpus["0000:04:00.0"].memory_by_pid == {NO_PID: 4 * GIB}
    write(tmp_path / "proc", {"2/comm": "sh\n"})
    clock.seconds += 20
    read = without_device(readings(machine.collect()))
    assert "memory_used_bytes" not in read
    assert read["process_memory_bytes"] == {("unknown",): 4 * GIB}
    assert machine.last_reading.gpus == {}


def test_programs_that_use_vulkan_hold_memory_of_an_amd_card(tmp_path: Path) -> None:
    """ROCm's driver does not list them; what no process is known for is unknown."""
    plug_in(tmp_path, "card1 amdgpu 0000:03:00.0", AMD)
    fdinfo = "drm-client-id: 1\ndrm-pdev: 0000:03:00.0\ndrm-memory-vram: 6291456 KiB\n"
    write(tmp_path / "proc", {f"{NO_PID}/fdinfo/3": fdinfo})
    (tmp_path / f"proc/{NO_PID}/fd").mkdir()
    (tmp_path / f"proc/{NO_PID}/fd/3").symlink_to("/dev/dri/renderD128")
    machine = collector(tmp_path)
    read = without_device(readings(machine.collect()))
    assert read["process_memory_bytes"] == {("unknown",): 20 * GIB}
    assert machine.last_reading is not None
    held = machine.last_reading.gpus["GPU-9f5e1a2b3c4d5e6f"].memory_by_pid
    assert held == {NO_PID: 6 * GIB, UNLISTED_PID: 14 * GIB}


def test_a_card_that_is_gone_is_missing(tmp_path: Path) -> None:
    """A card that the kernel no longer lists is expected, not present, and not up."""
    plug_in(tmp_path, "card1 amdgpu 0000:03:00.0", AMD)
    machine = collector(tmp_path)
    readings(machine.collect())
    (tmp_path / "class/drm/card1/device").unlink()
    read = readings(machine.collect())
    assert (read["gpu_devices"], read["gpu_devices_expected"]) == ({(): 0}, {(): 1})
    assert without_device(read) == {"up": {(): 0}}


def test_another_card_under_the_same_name_is_another(tmp_path: Path) -> None:
    """The kernel reuses the name of an unplugged card for the next one."""
    plug_in(tmp_path, "card1 amdgpu 0000:03:00.0", AMD)
    machine = collector(tmp_path)
    readings(machine.collect())
    (tmp_path / "class/drm/card1/device").unlink()
    readings(machine.collect())
    (tmp_path / "class/drm/card1").rename(tmp_path / "unplugged")
    plug_in(tmp_path, "card1 amdgpu 0000:07:00.0", AMD | {"unique_id": "77\n"})
    for _ in range(2):
        read = readings(machine.collect())
        assert read["gpu_up"] == {("card1", "GPU-77"): 1}
        assert next(iter(read["gpu_info"]))[5] == "0000:07:00.0"


def test_files_that_refuse_or_make_no_sense_are_absent(tmp_path: Path) -> None:
    """An unreadable file, an empty one, one without a number or with an impossible one costs its own value."""
    broken = {
        "gpu_busy_percent": "",
        "mem_busy_percent": "655\n",
        "mem_info_vram_total": "0\n",
        "pcie_replay_count": "n/a\n",
        "unique_id": "0000\n",
    }
    plug_in(
        tmp_path,
        "card1 amdgpu 0000:03:00.0",
        AMD | broken | {"current_link_speed": "Unknown\n", "current_link_width": "255\n"},
    )
    read = readings(collector(tmp_path).collect())
    found = without_device(read)
    absent = "utilization_ratio memory_utilization_ratio memory_total_bytes memory_free_bytes pcie_replays_total"
    assert found.keys().isdisjoint(absent.split())
    assert not {"pcie_link_generation", "pcie_link_width"} & found.keys()
    assert found["power_watts"] == {(): 121}
    assert next(iter(read["gpu_info"]))[1] == "0000:03:00.0"


@pytest.mark.parametrize(
    "odd",
    [
        {"current_link_speed": "1.2.3.4 GT/s\n"},
        {"pp_dpm_sclk": "\n" * 100_000},
        {"pp_dpm_sclk": f"0: {'9' * 5000}Mhz *\n"},
        {"ras/umc_err_count": f"ue: {'9' * 5000}\n"},
        {"gpu_busy_percent": "nan\n", "hwmon/hwmon3/temp1_input": "1e999\n"},
        {"product_name": "x" * 100_000},
        {"pcie_replay_count": "9" * 5000},
    ],
)
def test_an_odd_file_of_an_amd_card_costs_its_own_value(odd: dict[str, str], tmp_path: Path) -> None:
    """Values that are not numbers, too long or not finite, and files larger than a page."""
    plug_in(tmp_path, "card1 amdgpu 0000:03:00.0", AMD | odd)
    found = without_device(readings(collector(tmp_path).collect()))
    assert found["power_watts"] == {(): 121}
    assert found["temperature_celsius"][("memory",)] == 60
    assert all(math.isfinite(value) for values in found.values() for value in values.values())


def test_an_odd_fan_of_an_intel_card_costs_itself(tmp_path: Path) -> None:
    """A file that is named like a fan but has no number is ignored."""
    plug_in(tmp_path, "card0 xe 0000:04:00.0", XE | {"hwmon/hwmon4/fanX_max": "1\n", "hwmon/hwmon4/fan1_max": "odd\n"})
    found = without_device(readings(collector(tmp_path).collect()))
    assert found["temperature_celsius"] == {("gpu",): 48, ("memory",): 50}


def test_other_drivers_cards_are_not_ours(tmp_path: Path) -> None:
    """A server's display chip, and NVIDIA's card under nouveau, are left out."""
    plug_in(tmp_path, "card0 ast 0000:05:00.0", {"vendor": "0x1a03\n"})
    with pytest.raises(Unavailable, match="no amd GPU; no intel GPU"):
        list(collector(tmp_path).collect())


def test_clocks_are_parsed_as_the_kernel_writes_them() -> None:
    """Levels may be numbers or letters, with or without a star; an empty text has no clocks."""
    assert parse_clocks("0: 500Mhz \n1: 800Mhz *\n") == (800e6, 800e6)
    assert parse_clocks("S: 19Mhz *\n0: 615Mhz \n1: 2100Mhz \n") == (19e6, 2100e6)
    assert parse_clocks("0: 500Mhz\n") == (None, 500e6)
    assert parse_clocks("") == (None, None)


@pytest.mark.parametrize(("driver", "files", "more"), [("amdgpu", AMD, {}), ("xe", XE, {}), ("i915", {}, I915_CARD)])
def test_a_card_of_which_no_file_can_be_read_is_not_up(
    driver: str, files: dict[str, str], more: dict[str, str], tmp_path: Path
) -> None:
    """The kernel still reports its PCIe link; the card is up again once a file of its driver can be read."""
    plug_in(tmp_path, f"card1 {driver} 0000:03:00.0", {"vendor": "0x1\n", "device": "0x2\n"} | files, more)
    cards = collector(tmp_path)
    before = readings(cards.collect())
    places = ((tmp_path / "devices/pci0000:00/0000:03:00.0", files), (tmp_path / "class/drm/card1", more))
    for folder, texts in places:
        for name in texts:
            if not name.startswith(("current_", "max_", "vendor", "device", "power/", "unique_id")):
                (folder / name).write_text("")
    read = readings(cards.collect())
    assert list(read["gpu_up"].values()) == [0]
    assert {name for name in read if name.startswith("gpu_")} - {"gpu_info", "gpu_up"} == {
        "gpu_devices",
        "gpu_devices_expected",
        "gpu_devices_suspended",
        "gpu_devices_polling_paused",
    }
    for folder, texts in places:
        write(folder, texts)
    assert readings(cards.collect()) == before


def test_files_that_fail_for_a_moment_are_counted(tmp_path: Path) -> None:
    """Failing files are read again in every scrape; a card that never had the files is up."""
    plug_in(tmp_path, "card1 amdgpu 0000:03:00.0", AMD)
    plug_in(tmp_path, "card2 i915 0000:00:02.0", {"vendor": "0x8086\n", "device": "0xa780\n"})
    cards = collector(tmp_path)
    file = tmp_path / "devices/pci0000:00/0000:03:00.0/gpu_busy_percent"
    for text, lost in (("87", 0), ("", 1), ("", 1), ("87", 0)):
        file.write_text(text)
        read = readings(cards.collect())
        assert sorted(read["gpu_up"].values()) == [1, 1]
        assert sorted(read["gpu_fields_lost"].values()) == [0, lost]
        assert ("gpu_utilization_ratio" in read) == (not lost)
