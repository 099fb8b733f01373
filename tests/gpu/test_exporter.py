from __future__ import annotations

import json
import os
import signal
import socket
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.gpu.driver import GIB, H100, plug_in, uuid
from tests.support.fakes import of_collector
from tests.support.programs import wait_until
from tests.support.readings import Page

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartExporter
    from tests.gpu.driver import Driver


def test_the_real_exporter_with_a_driver(
    standin: Path, driver: Driver, start_exporter: StartExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of eight GPUs one that hangs costs only its own metrics, and does not delay the stop."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(standin.parent))
    monkeypatch.setenv("STANDIN_SCRIPT", str(driver.script))
    plug_in(driver, 8, H100, "NVIDIA H100 80GB HBM3")
    exporter = start_exporter("--collector.disable-defaults", "--collector.gpu")
    page = Page(exporter.page().decode())
    assert page.one("modelhost_gpu_devices") == 8
    assert page.by("modelhost_gpu_power_watts", "gpu", "uuid") == {(str(n), uuid(n)): 650 for n in range(8)}
    driver.say(3, UtilizationRates="hang")

    def up() -> int:
        found = Page(exporter.page().decode()).by("modelhost_gpu_up", "gpu")
        return sum(1 for value in found.values() if value)

    wait_until(lambda: up() == 7, "the hanging GPU is not up")
    assert of_collector(exporter.page(), "success", "gpu") == 1
    assert exporter.stop() < 5


def test_memory_carries_the_name_of_the_proxied_server(
    standin: Path, driver: Driver, start_exporter: StartExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GPU memory of a process that listens on a server's port has that server's name, not its program's."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(standin.parent))
    monkeypatch.setenv("STANDIN_SCRIPT", str(driver.script))
    plug_in(driver, 1, H100, "NVIDIA H100 80GB HBM3")
    driver.say(0, ComputeRunningProcesses=f"{os.getpid()}:5000000:", GraphicsRunningProcesses="")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = f"llm=127.0.0.1:0=http://127.0.0.1:{listening.getsockname()[1]}"
        exporter = start_exporter("--collector.disable-defaults", "--collector.gpu", f"--proxy={server}")
        page = Page(exporter.page().decode())
    assert page.by("modelhost_gpu_process_memory_bytes", "process") == {("llm",): 5000000}


def test_a_reload_that_leaves_the_gpus_options_alone_leaves_their_counters(
    standin: Path, driver: Driver, start_exporter: StartExporter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An unchanged collector is kept with its counters; changed options create a new one, which starts at 0."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(standin.parent))
    monkeypatch.setenv("STANDIN_SCRIPT", str(driver.script))
    plug_in(driver, 1, H100, "NVIDIA H100 80GB HBM3")
    file = tmp_path / "config.yaml"
    file.write_text("")
    exporter = start_exporter("--collector.disable-defaults", "--collector.gpu", f"--config.file={file}")

    def busy() -> float:
        return Page(exporter.page().decode()).by("modelhost_gpu_busy_seconds_total", "gpu").get(("0",), -1)

    def reload(text: str) -> None:
        file.write_text(text)
        exporter.process.send_signal(signal.SIGHUP)
        exporter.wait_for_message("configuration reloaded")

    wait_until(lambda: busy() == 0, "the samples are read")
    driver.say(0, {"Samples.1": "1000000:50 1500000:100 2000000:100"})
    wait_until(lambda: busy() == 1, "the samples are added up")
    reload("servers: [{name: llm, url: 'http://127.0.0.1:9'}]\ncollectors: {load: {enabled: false}}")
    assert busy() == 1
    reload("collectors: {gpu: {timeout: 600ms}}")
    wait_until(lambda: busy() == 0, "the new collector has begun")


def test_a_machine_without_a_gpu_is_quiet(start_exporter: StartExporter, tmp_path: Path) -> None:
    """Without a GPU the collector is not available, which is logged once, at info; nvidia-ml-py is not imported."""
    exporter = start_exporter("--collector.disable-defaults", "--collector.gpu", f"--path.sysfs={tmp_path}")
    for _ in range(2):
        page = exporter.page()
    if of_collector(page, "available", "gpu"):  # this machine has one
        return
    assert of_collector(page, "success", "gpu") == 0
    told = [line for line in exporter.lines if '"collector": "gpu"' in line or '"level": "warning"' in line]
    assert [("collector unavailable" in line, '"level": "info"' in line) for line in told] == [(True, True)]


def test_the_live_feed_shows_every_gpu(
    standin: Path, driver: Driver, start_exporter: StartExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight GPUs with all values; one that hangs has none, and the others keep theirs."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(standin.parent))
    monkeypatch.setenv("STANDIN_SCRIPT", str(driver.script))
    plug_in(driver, 8, H100, "NVIDIA H100 80GB HBM3")
    exporter = start_exporter("--collector.disable-defaults", "--collector.gpu")
    events = urllib.request.urlopen(f"http://{exporter.address}/api/live", timeout=10)

    def message() -> dict[str, Any]:
        while not (line := events.readline()).startswith(b"data: "):
            pass
        data: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
        return data

    with events:
        first = message()
        assert [gpu["id"] for gpu in first["gpus"]] == [str(number) for number in range(8)]
        assert first["gpuInfo"] == {
            "id": "0",
            "name": "NVIDIA H100 80GB HBM3",
            "usage": pytest.approx(93),
            "memoryUsed": 60 * GIB,
            "memoryTotal": 80 * GIB,
            "temperature": 61,
        }
        assert first["gpuUsage"] == pytest.approx(93)
        driver.say(0, UtilizationRates="hang")
        while (last := message())["gpuUsage"] is not None:
            pass
        assert last["gpus"][0]["temperature"] is None
        assert [gpu["usage"] for gpu in last["gpus"][1:]] == [pytest.approx(93)] * 7
