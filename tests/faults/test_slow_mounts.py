"""Many slow file systems must not hide one another, or the root."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from tests.faults import many_mounts
from tests.faults.mount_namespace import CANNOT_MOUNT
from tests.faults.observed import Resources, scraped, wait_until_normal
from tests.faults.shims import compiled
from tests.support.programs import Exporter, Program, missing, running, wait_until
from tests.support.readings import Page

if TYPE_CHECKING:
    from pathlib import Path

MOUNTS = 20
MILLISECONDS = 400
CONFIG = "collectors: {{filesystem: {{mountpoints: {{include: '/|{folder}/.*'}}, fstypes: {{include: '.*'}}}}}}\n"


class ExporterWithMounts(Exporter):
    """The real exporter with mounts of its own below ``folder``, whose statvfs is slow."""

    def __init__(self, folder: Path, library: Path, *arguments: str) -> None:
        preload = (
            ("LD_PRELOAD", str(library)),
            ("SLOW_STATVFS_UNDER", f"{folder}/"),
            ("SLOW_STATVFS_MS", str(MILLISECONDS)),
        )
        exporter = (
            sys.executable,
            "-m",
            "modelhost_exporter",
            "--web.listen-address=127.0.0.1:0",
            "--log.format=json",
            "--no-discovery",
            *arguments,
        )
        Program.__init__(
            self,
            [
                *(sys.executable, many_mounts.__file__, folder, str(MOUNTS)),
                *("/usr/bin/env", *(f"{name}={value}" for name, value in preload), *exporter),
            ],
            env={"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        if CANNOT_MOUNT in self.wait_for_line(lambda line: '"msg": "listening"' in line or CANNOT_MOUNT in line):
            missing("mounting needs root")
        self.wait_for_message("ready")
        self.url = next(line for line in self.lines if '"listening"' in line).partition('"url": "')[2].partition('"')[0]


def mount_points(exporter: Exporter, name: str) -> dict[str, float]:
    """Return a metric of the file systems by mount point."""
    page = Page(exporter.page().decode())
    return {mount: value for (mount,), value in page.by(f"modelhost_filesystem_{name}", "mountpoint").items()}


def test_twenty_mounts_that_take_long(tmp_path: Path) -> None:
    """Every page has the root; after two seconds each mount has its space, and none has an error."""
    folder, config = tmp_path / "slow", tmp_path / "config.yaml"
    folder.mkdir()
    config.write_text(CONFIG.format(folder=folder))
    library = compiled("slow_statvfs", tmp_path)
    expected = {"/", *(f"{folder}/{number}" for number in range(MOUNTS))}
    with running(ExporterWithMounts(folder, library, f"--config.file={config}")) as exporter:
        assert isinstance(exporter, Exporter)
        assert "/" in mount_points(exporter, "size_bytes")
        before = Resources.of(exporter)
        with scraped(exporter):
            wait_until(lambda: mount_points(exporter, "size_bytes").keys() == expected, "the space of every mount")
            first = mount_points(exporter, "updated_timestamp_seconds")
            assert mount_points(exporter, "device_error") == dict.fromkeys(expected, 0)
            wait_until(
                lambda: all(
                    when > first[mount] for mount, when in mount_points(exporter, "updated_timestamp_seconds").items()
                ),
                "a newer reading of every mount",
            )
        assert Page(exporter.page().decode()).by("modelhost_scrape_collector_success", "collector")["filesystem",] == 1
        wait_until_normal(exporter, before, spare=6)
