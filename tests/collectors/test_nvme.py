from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter.collector import CollectorContext, CollectorOptions, Unavailable
from modelhost_exporter.collectors.nvme import NvmeCollector, create
from modelhost_exporter.linux.nvme import LOG_BYTES
from tests.support.machine import FILES, health_log, write
from tests.support.readings import readings, readings_or_reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.readings import Readings

LATE = 30.0
"""Seconds that a reading may take on a busy machine."""


def drives(tmp_path: Path, read: Callable[[Path], bytes], *names: str) -> Readings:
    """Return what is measured of drives whose logs are read by ``read``."""
    write(tmp_path, {f"class/nvme/{name}/state": "live\n" for name in names or ("nvme0",)})
    return readings(NvmeCollector(tmp_path, Path("/dev"), read, LATE).collect())


def test_a_drive_with_everything(tmp_path: Path) -> None:
    """Model and state from /sys, temperature from its sensor, health from its log, in base units."""
    collector = NvmeCollector(write(tmp_path, FILES) / "sys", tmp_path, lambda _: health_log(), LATE)
    read = readings(collector.collect())
    assert read.pop("nvme_info") == {("nvme0", "Fast SSD", "S1", "1.0", "live"): 1}
    warnings = {kind: on for (_, kind), on in read.pop("nvme_critical_warning").items()}
    assert {kind for kind, on in warnings.items() if on} == {"available_spare", "read_only"}
    assert len(warnings) == 6
    assert {name.removeprefix("nvme_"): of["nvme0",] for name, of in read.items()} == {
        "temperature_celsius": 41.85,
        "available_spare_ratio": 0.09,
        "available_spare_threshold_ratio": 0.1,
        "percentage_used_ratio": 1.02,
        "data_read_bytes_total": 512_000,
        "data_written_bytes_total": 2**64 * 512_000,
        "controller_busy_seconds_total": 5 * 60,
        "power_cycles_total": 6,
        "power_on_seconds_total": 7 * 3600,
        "unsafe_shutdowns_total": 8,
        "media_errors_total": 9,
        "num_err_log_entries_total": 10,
    }


@pytest.mark.parametrize("sensor", ["hwmon2", "device/hwmon/hwmon2"])
def test_the_temperature_does_not_need_root(sensor: str, tmp_path: Path) -> None:
    """The sensor's place depends on the kernel."""
    write(tmp_path, {f"class/nvme/nvme0/{sensor}/temp1_input": "30850\n"})

    def refuse(device: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(device))

    read = drives(tmp_path, refuse)
    assert set(read) == {"nvme_info", "nvme_temperature_celsius"}
    assert read["nvme_temperature_celsius"] == {("nvme0",): 30.85}


def test_without_a_sensor_the_log_has_the_temperature(tmp_path: Path) -> None:
    """It is in kelvins there."""
    assert drives(tmp_path, lambda _: health_log())["nvme_temperature_celsius"] == {("nvme0",): 42}


def test_permission_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One message for all drives and scrapes."""
    folder = tmp_path / "dev"

    def refuse(device: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(device))

    write(tmp_path, {f"class/nvme/nvme{number}/state": "live\n" for number in range(3)})
    collector = NvmeCollector(tmp_path, folder, refuse, LATE)
    for _ in range(2):
        list(collector.collect())
    problems = [getattr(record, "fields", {}).get("problem", "") for record in caplog.records]
    assert sum("CAP_SYS_ADMIN" in problem for problem in problems) == 1


@pytest.mark.parametrize("log", [b"", b"\xff" * (LOG_BYTES - 1)])
def test_a_short_log_costs_only_the_health(log: bytes, tmp_path: Path) -> None:
    """The drive is there all the same."""
    assert set(drives(tmp_path, lambda _: log)) == {"nvme_info"}


def test_a_log_of_ones_is_no_failure(tmp_path: Path) -> None:
    """The largest numbers that a log can have are numbers."""
    read = drives(tmp_path, lambda _: b"\xff" * LOG_BYTES)
    assert read["nvme_media_errors_total"] == {("nvme0",): 2.0**128}


def test_a_drive_that_hangs_costs_only_itself(tmp_path: Path) -> None:
    """A command that a drive never completes holds its read."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def read(device: Path) -> bytes:
        return pipe.read_bytes() if device.name == "nvme1" else health_log()

    try:
        found = drives(tmp_path, read, "nvme0", "nvme1")
        assert set(found["nvme_media_errors_total"]) == {("nvme0",)}
        assert len(found["nvme_info"]) == 2
    finally:
        os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))


def test_a_device_that_is_no_drive_is_no_failure(tmp_path: Path) -> None:
    """The real command to something else fails like one to a drive that does not know it."""
    write(tmp_path, {"class/nvme/null/state": "live\n", "class/nvme/nvme0/state": "live\n"})
    devices = tmp_path / "dev"
    devices.mkdir()
    (devices / "nvme0").symlink_to("/dev/null")
    assert set(readings(NvmeCollector(tmp_path, devices, wait_seconds=LATE).collect())) == {"nvme_info"}


def test_a_machine_without_drives_is_unavailable(tmp_path: Path) -> None:
    """A kernel with NVMe and without drives has an empty folder."""
    (tmp_path / "class/nvme").mkdir(parents=True)
    with pytest.raises(Unavailable):
        list(NvmeCollector(tmp_path, tmp_path).collect())


def test_this_machine() -> None:
    """On the real machine each drive has a state, and as root its health."""
    read = readings_or_reason(create(CollectorOptions(), CollectorContext()))
    assert isinstance(read, str) or read["nvme_info"]
