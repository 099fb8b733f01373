from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING

from modelhost_exporter.demo.profiles import RACK
from tests.support.programs import DEADLINE_SECONDS, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartExporter

# what a demo must not touch, watched by Python itself in a process of its own
_WATCHED = """
import sys
from modelhost_exporter.demo.host import DemoHost
touched = []
def watch(event, arguments):
    if event in ("socket.connect", "socket.bind", "subprocess.Popen", "ctypes.dlopen"):
        touched.append((event, str(arguments)))
    if event == "open" and str(arguments[0]).startswith(("/proc/", "/sys/", "/dev/nvidia")):
        if not str(arguments[0]).startswith(("/proc/self/", f"/proc/{__import__('os').getpid()}/")):
            touched.append((event, str(arguments[0])))
own = "/proc/stat"  # prometheus_client asks it, once, when the process's own start was
host = DemoHost(1.8e9)
sys.addaudithook(watch)
for minute in range(1, 70):
    host.page(1.8e9 + 60 * minute)
host.close()
print([what for what in touched if what != ("open", own)])
"""


def test_a_demo_says_that_it_is_one(start_exporter: StartExporter) -> None:
    """The log, the message of the live page (it then shows "Demo data") and a metric mark the demo."""
    exporter = start_exporter("--demo")
    assert any("this is a demo" in line for line in exporter.lines)
    live = f"http://{exporter.address}/api/live"
    with urllib.request.urlopen(live, timeout=DEADLINE_SECONDS) as events:
        message = next(line for line in events if line.startswith(b"data:"))
    assert json.loads(message.removeprefix(b"data:"))["demo"] is True
    assert b"\nmodelhost_demo 1.0\n" in exporter.page()


def test_without_the_flag_nothing_says_so(start_exporter: StartExporter) -> None:
    """Without --demo the metric that marks a demo is absent."""
    exporter = start_exporter("--collector.disable-defaults", "--collector.load")
    assert b"modelhost_demo" not in exporter.page()


def test_time_passes_in_a_demo(start_exporter: StartExporter) -> None:
    """A demo starts with traffic and with counters near zero, and its time passes."""
    started = time.time()
    exporter = start_exporter("--demo")

    def energy() -> list[float]:
        found = re.findall(rb"^modelhost_gpu_energy_joules_total\{.*\} (\S+)$", exporter.page(), re.MULTILINE)
        return [float(joules) for joules in found]

    def requests() -> float:
        found = re.findall(rb"^modelhost_requests_total\{.*\} (\S+)$", exporter.page(), re.MULTILINE)
        return sum(map(float, found))

    wait_until(lambda: requests() > 0, "the first requests")
    joules, seconds = energy(), time.time() - started
    assert joules  # of seven GPUs while one is off the bus
    assert max(joules) <= RACK.card.power_limit_watts * seconds
    before = requests()
    wait_until(lambda: requests() > before, "more requests")


def test_a_demo_neither_proxies_nor_asks_configured_servers(tmp_path: Path, start_exporter: StartExporter) -> None:
    """Configured servers are ignored; configured collectors are used."""
    config = tmp_path / "config.yaml"
    config.write_text(
        "servers:\n"
        "  - {name: mine, url: 'http://127.0.0.1:1', proxy: {listen: '127.0.0.1:0'}}\n"
        "  - {name: elsewhere, url: 'http://127.0.0.1:1'}\n"
        "collectors: {disk: {devices: {include: nvme0n1}}}\n"
    )
    exporter = start_exporter("--demo", f"--config.file={config}")
    wait_until(
        lambda: b'modelhost_engine_up{server="vllm",upstream=""} 1.0' in exporter.page(), "the simulated servers"
    )
    page = exporter.page()
    assert b'"mine"' not in page
    assert b'"elsewhere"' not in page
    assert b'modelhost_disk_read_bytes_total{device="nvme0n1"}' in page
    assert b'device="nvme1n1"' not in page
    assert not any('"msg": "proxying"' in line for line in exporter.lines)


def test_a_demo_touches_nothing() -> None:
    """In a simulated hour no socket is opened, no library loaded, no program started, no kernel file read."""
    command = [sys.executable, "-c", _WATCHED]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=3 * DEADLINE_SECONDS)
    assert done.stdout == "[]\n"
