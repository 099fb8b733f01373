"""A damaged driver library costs only the GPU metrics, and a valid one in its place is loaded without a restart."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.faults.observed import scraped
from tests.gpu import damaged
from tests.gpu.driver import H100, plug_in
from tests.support.fakes import of_collector
from tests.support.programs import wait_until
from tests.support.readings import Page

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartExporter
    from tests.gpu.driver import Driver
    from tests.support.programs import Exporter


@pytest.fixture
def file(driver: Driver, standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where the exporter's loader finds the library first; nothing is there."""
    folder = tmp_path / "lib"
    folder.mkdir()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(folder))
    monkeypatch.setenv("STANDIN_SCRIPT", str(driver.script))
    return folder / standin.name


def gpus(exporter: Exporter) -> float:
    """Return how many GPUs are up."""
    return sum(Page(exporter.page().decode()).by("modelhost_gpu_up", "gpu").values())


@pytest.mark.parametrize("kind", damaged.KINDS)
def test_a_damaged_library_does_not_end_the_exporter(
    kind: str, file: Path, standin: Path, driver: Driver, start_exporter: StartExporter
) -> None:
    """The collector fails with a line that names the file; when the file is replaced the GPUs are there."""
    damaged.write(kind, standin, file)
    plug_in(driver, 2, H100, "NVIDIA H100 80GB HBM3")
    new = file.with_suffix(".new")
    exporter = start_exporter("--collector.disable-defaults", "--collector.gpu")
    with scraped(exporter) as loop:
        failure = exporter.wait_for_message("collector failed")
        assert str(file) in failure["detail"]
        assert "reinstall the NVIDIA driver" in failure["detail"]
        seen = loop.seen.count
        wait_until(lambda: loop.seen.count > seen + 5, "scrapes go on")
        assert exporter.process.poll() is None
        assert of_collector(exporter.page(), "success", "gpu") == 0
        shutil.copyfile(standin, new)
        if file.is_dir():
            file.rmdir()
        os.replace(new, file)  # noqa: PTH105 - as package managers do
        wait_until(lambda: gpus(exporter) == 2, "both GPUs are up")
    assert of_collector(exporter.page(), "success", "gpu") == 1
    assert len([line for line in exporter.lines if "collector failed" in line]) == 1


def test_a_library_for_another_machine_is_skipped(
    file: Path, standin: Path, start_exporter: StartExporter, tmp_path: Path
) -> None:
    """The loader skips it, too: this machine has no NVIDIA driver."""
    damaged.move_to_another_machine(standin, file)
    exporter = start_exporter("--collector.disable-defaults", "--collector.gpu", f"--path.sysfs={tmp_path}")
    with scraped(exporter):
        if of_collector(exporter.page(), "available", "gpu"):
            pytest.skip("this machine has the library elsewhere, too")
        assert exporter.process.poll() is None
