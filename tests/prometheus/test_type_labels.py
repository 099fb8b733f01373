"""Alerts fire in a Prometheus 3 that adds types and units of metrics as labels, which take part in vector matching."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.prometheus.rules import ALERTS, FOLDER
from tests.support.programs import DEADLINE_SECONDS, built, wait_until
from tests.support.prometheus_server import running_prometheus
from tests.support.stand_in import reply, standing_in

if TYPE_CHECKING:
    from http.server import BaseHTTPRequestHandler
    from pathlib import Path

DISK = 'device="/dev/sda1", mountpoint="/", fstype="ext4"'
GPU = 'gpu="0", uuid="GPU-0"'
SAMPLES = {
    'modelhost_build_info{version="1", python="3"}': 1,
    'modelhost_scrape_collector_success{collector="disk"}': 0,
    'modelhost_scrape_collector_available{collector="disk"}': 1,
    f"modelhost_filesystem_available_bytes{{{DISK}}}": 1,
    f"modelhost_filesystem_size_bytes{{{DISK}}}": 100,
    f"modelhost_filesystem_files_free{{{DISK}}}": 1,
    f"modelhost_filesystem_files{{{DISK}}}": 100,
    f"modelhost_filesystem_readonly{{{DISK}}}": 0,
    "modelhost_clock_synchronized": 0,
    "modelhost_clock_maximum_error_seconds": 16,
    "modelhost_clock_offset_seconds": 0.06,
    "modelhost_time_seconds": 1_000_000,
    "modelhost_gpu_devices": 1,
    "modelhost_gpu_devices_expected": 2,
    f"modelhost_gpu_up{{{GPU}}}": 0,
    f'modelhost_gpu_xid_last_timestamp_seconds{{{GPU}, xid="79"}}': 999_900,
    f"modelhost_gpu_busy_seconds_total{{{GPU}}}": 5,
    f'modelhost_gpu_process_memory_bytes{{{GPU}, process="ollama"}}': 5,
    'modelhost_model_loaded{server="ollama", model="m", upstream=""}': 1,
    'modelhost_engine_requests_waiting{server="vllm", upstream=""}': 20,
    'modelhost_engine_requests_running{server="vllm", upstream=""}': 5,
}
FIRING = {
    "ExporterCollectorFailing",
    "GpuAllNotResponding",
    "GpuIdleWithModel",
    "GpuMissing",
    "GpuXidError",
    "HostClockDiffers",
    "HostClockSkewed",
    "HostClockUnsynchronized",
    "HostFilesystemFull",
    "HostFilesystemOutOfInodes",
    "ModelQueueLong",
}
"""Alerts that match a metric with another, and whose condition holds at once."""


def _page(handler: BaseHTTPRequestHandler) -> None:
    lines = []
    for sample, value in SAMPLES.items():
        name = sample.partition("{")[0]
        lines.append(f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}\n{sample} {value}\n")
    reply(handler, 200, "".join(lines).encode(), **{"Content-Type": "text/plain; version=0.0.4"})


def test_alerts_fire_with_types_as_labels(tmp_path: Path) -> None:
    """Gauges match counters, and what functions have returned, with and without ``ignoring``."""
    binary, flags = built("prometheus"), ["--enable-feature=type-and-unit-labels"]
    rules = FOLDER / "rules" / "recording.yml"
    with (
        standing_in({"/metrics": _page}) as page,
        running_prometheus(f"127.0.0.1:{page.port}", tmp_path, rules, binary=binary, flags=flags) as server,
    ):

        def holds() -> set[str]:
            return {rule["alert"] for rule in ALERTS if rule["alert"] in FIRING and server.query(rule["expr"])}

        server.wait_for('{__type__="counter"}')
        wait_until(lambda: holds() == FIRING, "alerts fire", every=1, seconds=2 * DEADLINE_SECONDS)
