from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.gpu.driver import GIB, H100, plug_in
from tests.support.programs import Program, running, wait_until
from tests.support.readings import Page

if TYPE_CHECKING:
    import pytest

    from tests.conftest import StartExporter
    from tests.gpu.driver import Driver

LLAMA_SERVER = """
import sys, threading
from tests.support.pages import pages
from tests.support.stand_in import StandIn
print("port", StandIn(pages("llama-server-2025")).port, file=sys.stderr, flush=True)
threading.Event().wait()
"""
MODEL = ("s", "models/llama.gguf")
CONFIG = """
servers:
  - {{name: s, url: "http://127.0.0.1:{port}", poll: {{interval: 100ms}}}}
collectors:
  disable_defaults: true
  gpu: {{enabled: true, timeout: 5s}}
  engines: {{enabled: true}}
"""


def test_energy_and_memory_of_a_process_are_those_of_its_model(
    standin: Path, driver: Driver, start_exporter: StartExporter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The real exporter: who listens where a configured server is, and holds GPU memory, holds it for the model.

    Memory is there though nobody scrapes GPUs. What the GPU uses is the model's alone until another process has memory
    on it, and a part then.
    """
    monkeypatch.setenv("LD_LIBRARY_PATH", str(standin.parent))
    monkeypatch.setenv("STANDIN_SCRIPT", str(driver.script))
    script, config = tmp_path / "llama-server", tmp_path / "config.yaml"
    script.write_text(LLAMA_SERVER)
    root = str(Path(__file__).parents[2])
    with running(Program([sys.executable, script], {"PYTHONPATH": root})) as server:
        mine = f"{server.process.pid}:{5 * GIB}:"
        plug_in(driver, 1, H100, "NVIDIA H100 80GB HBM3")
        driver.say(0, ComputeRunningProcesses=mine, TotalEnergyConsumption=1_000_000)
        port = server.wait_for_line(lambda line: line.startswith("port ")).split()[1]
        config.write_text(CONFIG.format(port=port))
        exporter = start_exporter(f"--config.file={config}")

        def shown(name: str, label: str) -> dict[tuple[str, ...], float]:
            return Page(exporter.page("?collect[]=engines").decode()).by(name, "server", "model", label)

        wait_until(lambda: (*MODEL, "vram") in shown("modelhost_model_memory_bytes", "type"), "memory")
        assert shown("modelhost_model_memory_bytes", "type")[*MODEL, "vram"] == 5 * GIB

        def energy() -> dict[tuple[str, ...], float]:
            return shown("modelhost_model_energy_joules_total", "attribution")

        def grows(attribution: str, beyond: float) -> bool:
            used[0] += 100
            driver.say(0, TotalEnergyConsumption=used[0] * 1000)
            exporter.page("?collect[]=gpu")
            return energy().get((*MODEL, attribution), 0) > beyond

        used = [1000]
        assert energy() == {}
        wait_until(lambda: grows("exclusive", 0), "energy")
        assert energy().keys() == {(*MODEL, "exclusive")}
        assert energy()[*MODEL, "exclusive"] % 100 == 0

        driver.say(0, ComputeRunningProcesses=f"{mine} {os.getpid()}:{15 * GIB}:")
        wait_until(lambda: grows("shared", 0), "energy of a shared GPU")
        alone = energy()[*MODEL, "exclusive"]
        shared = energy()[*MODEL, "shared"]
        assert shared % 25 == 0

        config.write_text(config.read_text().replace("timeout: 5s", "timeout: 6s"))
        exporter.process.send_signal(signal.SIGHUP)
        exporter.wait_for_message("configuration reloaded")
        wait_until(lambda: grows("shared", shared), "energy after a reload")
        assert energy()[*MODEL, "exclusive"] == alone
