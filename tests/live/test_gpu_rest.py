from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.live.gpu_rest import GpuRest, any_may_sleep

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("watched", "may_sleep", "asked"), [(False, True, 3), (True, True, 31), (False, False, 31), (True, False, 31)]
)
def test_gpus_that_may_sleep_are_left_alone_while_nobody_watches(watched: bool, may_sleep: bool, asked: int) -> None:
    """In a minute they are asked at its start, in the middle and at its end; all others every two seconds."""
    now = [1000.0]
    rest = GpuRest(lambda: may_sleep, lambda: now[0])
    count = 0
    for _ in range(31):
        count += rest.is_over(watched=watched)
        now[0] += 2.0
    assert count == asked


def test_who_begins_to_watch_is_shown_the_gpus_at_once() -> None:
    """A rest ends when somebody comes."""
    rest = GpuRest(lambda: True, lambda: 1000.0)
    assert rest.is_over(watched=False)
    assert not rest.is_over(watched=False)
    assert rest.is_over(watched=True)


def _device(sysfs: Path, address: str, control: str) -> Path:
    folder = sysfs / "devices" / address
    (folder / "power").mkdir(parents=True)
    (folder / "power/control").write_text(f"{control}\n")
    devices = sysfs / "bus/pci/devices"
    devices.mkdir(parents=True, exist_ok=True)
    (devices / address).symlink_to(folder)
    return folder


@pytest.mark.parametrize(("control", "expected"), [("auto", True), ("on", False)])
@pytest.mark.parametrize("place", ["bus/pci/drivers/nvidia/0000:01:00.0", "class/drm/card1/device"])
def test_the_kernel_says_which_may_sleep(tmp_path: Path, place: str, control: str, expected: bool) -> None:
    """NVIDIA's cards by their driver, others by their card; a machine without GPUs has none that may."""
    assert not any_may_sleep(tmp_path)
    folder = _device(tmp_path, "0000:01:00.0", control)
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).symlink_to(folder)
    assert any_may_sleep(tmp_path) is expected
