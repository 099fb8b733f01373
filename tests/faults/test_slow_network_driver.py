"""A slow network driver must not stop anything that does not use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.observed import scraped, streamed, streaming_server
from tests.faults.shims import compiled, preloaded
from tests.support.machine import write
from tests.support.programs import wait_until
from tests.support.readings import Page

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartExporter
    from tests.support.programs import Exporter

MAX_GAP_SECONDS = 0.5
CONFIG = "collectors: {network: {devices: {include: '.*'}}}\n"


def devices(exporter: Exporter, name: str) -> set[str]:
    """Return the devices that a scrape has of a network metric."""
    return {device for (device,) in Page(exporter.page().decode()).by(f"modelhost_network_{name}", "device")}


@pytest.mark.parametrize("milliseconds", ["200", "3000"])
def test_ioctls_that_take_long(milliseconds: str, start_exporter: StartExporter, tmp_path: Path) -> None:
    """Neither a proxied stream nor a scrape waits for the ioctls of a network driver."""
    library, config = compiled("slow_ioctl", tmp_path), tmp_path / "config.yaml"
    with streaming_server() as server:
        config.write_text(CONFIG)
        with preloaded(library, SLOW_IOCTL_MS=milliseconds):
            exporter = start_exporter(f"--config.file={config}", f"--proxy=s=127.0.0.1:0={server.url}")
        with streamed(exporter, "s", MAX_GAP_SECONDS):
            with scraped(exporter) as loop:
                wait_until(lambda: loop.seen.count >= 10 or bool(loop.seen.problems), "ten scrapes")
            assert devices(exporter, "up") == devices(exporter, "receive_bytes_total") >= {"lo"}


def test_a_speed_that_takes_long(start_exporter: StartExporter, tmp_path: Path) -> None:
    """While a driver determines its speed, traffic and states are on every page; the speed follows."""
    library, sysfs = (
        compiled("slow_read", tmp_path),
        write(tmp_path, {"sys/class/net/lo/operstate": "unknown\n"}) / "sys",
    )
    write(sysfs, {"class/net/lo/speed": "1000\n"})
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    with preloaded(library, SLOW_READ_SUFFIX="/net/lo/speed", SLOW_READ_MS="2000"):
        exporter = start_exporter(f"--config.file={config}", f"--path.sysfs={sysfs}")
    assert "lo" in devices(exporter, "up")
    assert not devices(exporter, "speed_bytes")
    with scraped(exporter) as loop:
        wait_until(lambda: devices(exporter, "speed_bytes") == {"lo"}, "the speed")
        count = loop.seen.count
        wait_until(lambda: loop.seen.count >= count + 5 or bool(loop.seen.problems), "five more scrapes")
        assert devices(exporter, "speed_bytes") == devices(exporter, "up") == {"lo"}
        assert "lo" in devices(exporter, "receive_bytes_total")
    assert loop.seen.slowest_seconds < 1
