from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.gpu.sysfs.kfd import memory_by_pid
from tests.support.machine import write

if TYPE_CHECKING:
    from pathlib import Path

GIB = 2**30
ADDRESS = "0000:83:00.1"
LOCATION = 0x83 << 8 | 1
FILES = {
    "topology/nodes/0/properties": "cpu_cores_count 16\nsimd_count 0\nlocation_id 0\ndomain 0\n",
    "topology/nodes/0/gpu_id": "0\n",
    "topology/nodes/1/properties": f"cpu_cores_count 0\nsimd_count 384\nlocation_id {LOCATION}\ndomain 0\n",
    "topology/nodes/1/gpu_id": "51234\n",
    "topology/nodes/2/properties": "cpu_cores_count 0\nsimd_count 384\nlocation_id 4096\ndomain 0\n",
    "topology/nodes/2/gpu_id": "777\n",
    "proc/11/vram_51234": f"{3 * GIB}\n",
    "proc/11/vram_777": f"{GIB}\n",
    "proc/12/vram_51234": f"{GIB}\n",
    "proc/13/vram_51234": "0\n",
}


def kfd(folder: Path, **changes: str) -> Path:
    """Write the kernel's files, with changes (``__`` in a name is ``/``)."""
    write(folder, {**FILES, **{name.replace("__", "/"): text for name, text in changes.items()}})
    return folder


def test_processes_of_the_card_at_an_address(tmp_path: Path) -> None:
    """Each process's memory on this GPU only."""
    assert memory_by_pid(kfd(tmp_path), ADDRESS) == {11: 3 * GIB, 12: GIB}


@pytest.mark.parametrize(
    ("changes", "address"),
    [
        ({}, "0000:01:00.0"),
        ({"topology__nodes__1__properties": f"cpu_cores_count 8\nsimd_count 8\nlocation_id {LOCATION}\n"}, ADDRESS),
        ({"topology__nodes__2__properties": f"simd_count 8\nlocation_id {LOCATION}\n"}, ADDRESS),
    ],
    ids=["no such GPU", "processor with a GPU", "divided"],
)
def test_what_would_be_wrong_is_absent(tmp_path: Path, changes: dict[str, str], address: str) -> None:
    """Nothing is returned for a GPU without memory of its own, or that is divided."""
    assert memory_by_pid(kfd(tmp_path, **changes), address) is None


def test_no_driver_no_processes(tmp_path: Path) -> None:
    """Without ROCm's driver nothing is returned; invalid contents of its files are left out."""
    assert memory_by_pid(tmp_path / "none", ADDRESS) is None
    nonsense = {"proc__x__vram_51234": "1\n", "proc__12__vram_51234": "much\n"}
    assert memory_by_pid(kfd(tmp_path, **nonsense), ADDRESS) == {11: 3 * GIB}
