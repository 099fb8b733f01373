"""The GPU of a Jetson, in copies of the files of an Orin and a Nano."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.collector import Paths, Unavailable
from modelhost_exporter.collectors import gpu
from modelhost_exporter.gpu import sources
from modelhost_exporter.gpu.sysfs.tegra import TegraSource
from tests.support.machine import write
from tests.support.readings import readings

if TYPE_CHECKING:
    from pathlib import Path

GIB = 2**30
DEVICE = "devices/platform/bus@0/17000000.ga10b"
ORIN = {
    f"{DEVICE}/load": "437\n",
    f"{DEVICE}/devfreq/17000000.ga10b/cur_freq": "918000000\n",
    f"{DEVICE}/devfreq/17000000.ga10b/max_freq": "1300500000\n",
    "firmware/devicetree/base/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
    "class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "class/thermal/thermal_zone0/temp": "51000\n",
    "class/thermal/thermal_zone1/type": "gpu-thermal\n",
    "class/thermal/thermal_zone1/temp": "48500\n",
    "class/hwmon/hwmon3/name": "ina3221\n",
    "class/hwmon/hwmon3/in1_label": "VDD_GPU_SOC\n",
    "class/hwmon/hwmon3/in1_input": "20000\n",
    "class/hwmon/hwmon3/curr1_input": "600\n",
    "class/hwmon/hwmon3/in2_label": "VDD_CPU_CV\n",
    "class/hwmon/hwmon3/in2_input": "20000\n",
    "class/hwmon/hwmon3/curr2_input": "900\n",
    "class/hwmon/hwmon4/name": "other\n",
}


def jetson(sysfs: Path, files: dict[str, str]) -> Path:
    """Write the files of a Jetson, with the kernel's link to its GPU."""
    write(sysfs, files)
    folder = sysfs / "class/devfreq/17000000.ga10b"
    folder.mkdir(parents=True)
    (folder / "device").symlink_to(sysfs / DEVICE)
    return sysfs


def collector(sysfs: Path) -> gpu.GpuCollector:
    """Return the collector of this machine."""
    source = TegraSource(sysfs, lambda: 64 * GIB)
    return gpu.GpuCollector({"tegra": source}, gpu.GpuOptions())


def test_an_orin(tmp_path: Path) -> None:
    """Load in per mille, clock, temperature and the power of the GPU's rail; its memory is the machine's."""
    read = readings(collector(jetson(tmp_path, ORIN)).collect())
    gpu0 = ("0", "17000000.ga10b")
    name = "NVIDIA Jetson AGX Orin Developer Kit"
    assert read["gpu_info"] == {(*gpu0, "nvidia", name, platform.release(), "", "", "8.7"): 1}
    assert read["gpu_utilization_ratio"] == {gpu0: pytest.approx(0.437)}
    assert read["gpu_clock_hertz"] == {(*gpu0, "graphics"): 918e6}
    assert read["gpu_clock_max_hertz"] == {(*gpu0, "graphics"): 1300.5e6}
    assert read["gpu_temperature_celsius"] == {(*gpu0, "gpu"): 48.5}
    assert read["gpu_power_watts"] == {gpu0: pytest.approx(12)}
    assert read["gpu_memory_total_bytes"] == {gpu0: 64 * GIB}
    assert read["gpu_unified_memory"] == {gpu0: 1}


def test_a_nano_has_its_gpu_elsewhere(tmp_path: Path) -> None:
    """Older kernels have the GPU below devices, and no rails or zones that are known."""
    write(tmp_path, {"devices/gpu.0/load": "0\n"})
    read = readings(collector(tmp_path).collect())
    assert read["gpu_utilization_ratio"] == {("0", "gpu.0"): 0}
    assert "gpu_power_watts" not in read


@pytest.mark.parametrize("load", ["", "-5\n", "70000\n", "idle\n"])
def test_a_load_that_is_none_is_absent(tmp_path: Path, load: str) -> None:
    """A share outside 0 to 1 is not shown; a file that can no longer be read is a GPU that does not answer."""
    machine = collector(jetson(tmp_path, ORIN))
    write(tmp_path, {f"{DEVICE}/load": load})
    read = readings(machine.collect())
    assert "gpu_utilization_ratio" not in read
    assert read["gpu_up"] == {("0", "17000000.ga10b"): float(load in ("-5\n", "70000\n"))}


def test_nvml_is_not_queried_on_a_jetson(tmp_path: Path) -> None:
    """It would report the same GPU again, with zeros; elsewhere there is no such source."""
    found = sources.all_of(Paths(sysfs=jetson(tmp_path, ORIN)))
    assert found["nvidia"].unavailable_reason() == "the GPU of a Jetson is read without NVML"
    assert found["tegra"].unavailable_reason() == ""
    assert len(found["tegra"].enumerate().present) == 1
    with pytest.raises(Unavailable, match="no GPU of a Jetson"):
        TegraSource(tmp_path / "class/thermal", lambda: 0)
