"""A real Prometheus scrapes the real exporter."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modelhost_exporter import collectors
from modelhost_exporter.metrics import exporter_metrics
from modelhost_exporter.scraping import scrape
from tests.support.programs import DEADLINE_SECONDS, fetch, installed, wait_until
from tests.support.prometheus_server import running_prometheus
from tests.support.stand_in import standing_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import StartExporter
    from tests.support.programs import Exporter
    from tests.support.prometheus_server import Prometheus

pytestmark = pytest.mark.usefixtures("_needs_prometheus")

LOOPBACK = "collectors: {network: {devices: {include: lo}}}"
# collectors that a machine may have nothing for
OPTIONAL = {
    "textfile",
    "bonding",
    "nvme",
    "rapl",
    "edac",
    "cgroup",
    "conntrack",
    "infiniband",
    "mdadm",
    "sensors",
    "pressure",
    "gpu",
    "engines",
}


@pytest.fixture
def _needs_prometheus() -> None:
    installed("prometheus")


@pytest.fixture
def exporter(start_exporter: StartExporter, tmp_path: Path) -> Exporter:
    """Start the real exporter, which measures the loopback interface too."""
    file = tmp_path / "exporter.yaml"
    file.write_text(LOOPBACK)
    return start_exporter(f"--config.file={file}")


@pytest.fixture
def prometheus(exporter: Exporter, tmp_path: Path) -> Iterator[Prometheus]:
    """Start a real Prometheus that scrapes it."""
    with running_prometheus(exporter.address, tmp_path) as server:
        yield server


def test_prometheus_scrapes_every_family(prometheus: Prometheus) -> None:
    """The target is up, every scrape succeeds, and each collector's families are there with their types."""
    assert prometheus.value("min_over_time(up[1m])") == 1
    assert prometheus.value("scrape_samples_scraped") == prometheus.value("scrape_samples_post_metric_relabeling")
    names = {result["metric"]["__name__"] for result in prometheus.query('{__name__=~"modelhost_.+"}')}
    assert {family.name for family in (*exporter_metrics.FAMILIES, *scrape.FAMILIES)} - names == {
        exporter_metrics.DEMO.name,
        exporter_metrics.PRICE.name,
    }
    failed = {result["metric"]["collector"] for result in prometheus.query("modelhost_scrape_collector_success == 0")}
    assert failed <= OPTIONAL
    enabled = {name for name in collectors.names() if collectors.options_of(name).enabled_by_default}
    for name in enabled - failed:
        assert {family.name for family in collectors.module(name).FAMILIES} & names, f"nothing from {name}"


def test_cpu_load_shows_in_the_rate(prometheus: Prometheus, exporter: Exporter) -> None:
    """A process that burns a CPU raises the machine's busy CPU seconds by what the kernel charged the process."""
    prometheus.wait_for("modelhost_cpu_seconds_total")
    busy = 'sum(modelhost_cpu_seconds_total{mode!~"idle|iowait"})'
    before = prometheus.value(busy)
    assert before is not None
    burning = subprocess.run(
        ["python3", "-c", "import time\nwhile time.process_time() < 1.5: pass"], check=True, timeout=DEADLINE_SECONDS
    )
    assert burning.returncode == 0
    wait_until(lambda: (prometheus.value(busy) or 0) - before >= 1.4, "1.5 CPU seconds show up")
    rate = prometheus.value('sum(rate(modelhost_cpu_seconds_total{mode!~"idle|iowait"}[5s]))')
    assert rate is not None
    cores = prometheus.value("modelhost_cpu_logical_cores")
    assert cores is not None
    assert 0.1 < rate <= cores * 1.1
    total = prometheus.value("sum(rate(modelhost_cpu_seconds_total[5s])) / scalar(rate(modelhost_time_seconds[5s]))")
    assert total == pytest.approx(cores, rel=0.15), "the modes do not add up to all time"
    assert exporter.process.poll() is None


def test_bytes_sent_show_in_the_network_rate(prometheus: Prometheus) -> None:
    """20 MB over loopback are counted as at least 20 MB received and sent, and as no more than the kernel has."""
    name = 'modelhost_network_{}_bytes_total{{device="lo"}}'
    prometheus.wait_for(name.format("receive"))
    before = {way: prometheus.value(name.format(way)) or 0.0 for way in ("receive", "transmit")}
    payload = 20_000_000
    _send_over_loopback(payload)
    for way, start in before.items():
        wait_until(lambda way=way, start=start: (prometheus.value(name.format(way)) or 0) - start >= payload, f"{way}")  # type: ignore[misc]
        counted = prometheus.value(name.format(way)) or 0.0
        assert start + payload <= counted <= _kernel_counts(way)
        wait_until(
            lambda way=way: (prometheus.value(f"rate({name.format(way)}[10s])") or 0) > payload / 20,  # type: ignore[misc]
            f"the rate of {way}",
        )


def _kernel_counts(way: str) -> int:
    """Return the bytes that the kernel has counted on the loopback interface by now."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    fields = next(line.partition(":")[2].split() for line in lines if line.strip().startswith("lo:"))
    return int(fields[0 if way == "receive" else 8])


def _send_over_loopback(size: int) -> None:
    """Send bytes from one socket to another and wait until all have arrived."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        received = [0]

        def receive() -> None:
            connection, _ = server.accept()
            with connection:
                while data := connection.recv(1 << 20):
                    received[0] += len(data)

        thread = threading.Thread(target=receive)
        thread.start()
        with socket.create_connection(server.getsockname()) as client:
            client.sendall(bytes(size))
        thread.join(DEADLINE_SECONDS)
    assert received == [size]


def test_no_name_takes_the_target_down(start_exporter: StartExporter, tmp_path: Path) -> None:
    """Names of a client, of an engine and of replicas are long; with Prometheus' usual limit the target stays up."""
    models = [{"id": character * 256} for character in ("\U0001f600", "m", "é")]
    body = json.dumps({"object": "list", "data": models, "choices": [], "model": "m"}).encode()
    with standing_in({"/v1/models": body, "/v1/chat/completions": body}) as engine:
        file = tmp_path / "exporter.yaml"
        server = {"name": "\U0001f600" * 128, "url": engine.url, "kind": "openai", "proxy": {"listen": "127.0.0.1:0"}}
        file.write_text(json.dumps({"servers": [server]}, ensure_ascii=False), encoding="utf-8")
        exporter = start_exporter(f"--config.file={file}")
        proxy = next(json.loads(line) for line in exporter.lines if '"msg": "proxying"' in line)["url"]
        for name in ("\U0001f600" * 256, "\U0001f601" * 10_000):
            asked = json.dumps({"model": name}).encode()
            fetch(urllib.request.Request(f"{proxy}/v1/chat/completions", asked))  # noqa: S310 - our own server
        with running_prometheus(exporter.address, tmp_path, label_value_length_limit=200) as prometheus:
            assert len(prometheus.query("modelhost_requests_total")) == 2
            assert len(prometheus.query("modelhost_model_info")) == 3
            assert prometheus.value("min_over_time(up[1m])") == 1


def test_prometheus_sees_the_exporter_go(prometheus: Prometheus, exporter: Exporter) -> None:
    """When the exporter stops, up turns 0 and its series end."""
    began = time.time()
    exporter.stop()
    prometheus.wait_for("up == 0")
    wait_until(lambda: not prometheus.query("modelhost_time_seconds"), "the series are stale")
    last = prometheus.value("max_over_time(modelhost_time_seconds[10m])")
    assert last is not None
    assert last < began + 5


def test_promtool_accepts_the_page(exporter: Exporter) -> None:
    """`promtool check metrics` has no complaint about names, types, units or HELP of the text page."""
    result = subprocess.run(
        [installed("promtool"), "check", "metrics"],
        input=exporter.page(),
        capture_output=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
