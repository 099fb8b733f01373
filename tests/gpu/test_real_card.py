"""Against a real NVIDIA GPU: the exporter beside nvidia-smi, field by field, idle and under load."""

from __future__ import annotations

import contextlib
import csv
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.programs import wait_until
from tests.support.readings import Page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import StartExporter
    from tests.support.programs import Exporter

pytestmark = pytest.mark.gpu

MIB = 2**20
ANY = "modelhost_gpu_"
# nvidia-smi's field → (our name, labels beyond gpu, what its number is in base units, how far the two may be apart)
FIELDS: dict[str, tuple[str, dict[str, str], float, float]] = {
    "memory.total": ("memory_total_bytes", {}, MIB, 0),
    "memory.used": ("memory_used_bytes", {}, MIB, 64 * MIB),
    "memory.free": ("memory_free_bytes", {}, MIB, 64 * MIB),
    "memory.reserved": ("memory_reserved_bytes", {}, MIB, MIB),
    "utilization.gpu": ("utilization_ratio", {}, 0.01, 0.15),
    "utilization.memory": ("memory_utilization_ratio", {}, 0.01, 0.15),
    "utilization.encoder": ("encoder_utilization_ratio", {}, 0.01, 0.1),
    "utilization.decoder": ("decoder_utilization_ratio", {}, 0.01, 0.1),
    "power.draw": ("power_watts", {}, 1, 60),
    "enforced.power.limit": ("power_limit_watts", {}, 1, 1),
    "temperature.gpu": ("temperature_celsius", {"sensor": "gpu"}, 1, 4),
    "temperature.memory": ("temperature_celsius", {"sensor": "memory"}, 1, 4),
    "clocks.gr": ("clock_hertz", {"domain": "graphics"}, 1e6, 300e6),
    "clocks.sm": ("clock_hertz", {"domain": "sm"}, 1e6, 300e6),
    "clocks.mem": ("clock_hertz", {"domain": "memory"}, 1e6, 300e6),
    "clocks.video": ("clock_hertz", {"domain": "video"}, 1e6, 300e6),
    "clocks.max.gr": ("clock_max_hertz", {"domain": "graphics"}, 1e6, 0),
    "clocks.max.sm": ("clock_max_hertz", {"domain": "sm"}, 1e6, 0),
    "clocks.max.mem": ("clock_max_hertz", {"domain": "memory"}, 1e6, 0),
    "pcie.link.gen.gpucurrent": ("pcie_link_generation", {}, 1, 0),
    "pcie.link.gen.max": ("pcie_link_generation_max", {}, 1, 0),
    "pcie.link.width.current": ("pcie_link_width", {}, 1, 0),
    "pcie.link.width.max": ("pcie_link_width_max", {}, 1, 0),
    "fan.speed": ("fan_speed_ratio", {"fan": "0"}, 0.01, 0.05),
    "ecc.errors.corrected.volatile.total": ("ecc_errors_total", {"type": "corrected"}, 1, 0),
    "ecc.errors.uncorrected.volatile.total": ("ecc_errors_total", {"type": "uncorrected"}, 1, 0),
}
STATIC = [field for field, (*_, apart) in FIELDS.items() if apart == 0]

_LOAD = """
import torch
a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
print("ready", flush=True)
while True:
    a @ a
    torch.cuda.synchronize()
"""


def smi(*fields: str) -> list[dict[str, float | None]]:
    """Return nvidia-smi's values for each GPU, in its own units; None for what it lacks."""
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    rows = csv.reader(text.splitlines(), skipinitialspace=True)
    return [dict(zip(fields, map(_number, row), strict=True)) for row in rows]


def _number(text: str) -> float | None:
    with contextlib.suppress(ValueError):
        return float(text)
    return None


@pytest.fixture(scope="module", autouse=True)
def _card() -> None:
    """Skip without a card that nvidia-smi can query."""
    if not shutil.which("nvidia-smi"):
        pytest.skip("no nvidia-smi")
    if subprocess.run(["nvidia-smi", "--list-gpus"], check=False, capture_output=True, timeout=60).returncode:
        pytest.skip("nvidia-smi finds no GPU")


@pytest.fixture
def exporter(start_exporter: StartExporter) -> Exporter:
    """Return an exporter that was scraped once."""
    started = start_exporter("--collector.disable-defaults", "--collector.gpu")
    wait_until(lambda: b"modelhost_gpu_up" in started.page(), "the GPUs are found", every=0.5)
    return started


@pytest.fixture
def load() -> Iterator[None]:
    """Multiply matrices meanwhile; skips without torch."""
    process = subprocess.Popen(
        [sys.executable, "-c", _LOAD], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            pytest.skip("no torch with CUDA")
        yield
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def differences(exporter: Exporter, fields: list[str]) -> list[str]:
    """Return every field in which the exporter and nvidia-smi, run before and after, disagree."""
    before, page, after = smi(*fields), Page(exporter.page().decode()), smi(*fields)
    found = []
    for index, (first, last) in enumerate(zip(before, after, strict=True)):
        for field in fields:
            name, labels, unit, apart = FIELDS[field]
            ours = page.by(ANY + name, "gpu", where={"gpu": str(index), **labels}).get((str(index),))
            theirs = [value * unit for value in (first[field], last[field]) if value is not None]
            if not theirs:
                if ours is not None and field != "pcie.link.gen.gpucurrent":
                    found.append(f"GPU {index} {field}: ours {ours}, nvidia-smi has none")
            elif ours is None or not min(theirs) - apart <= ours <= max(theirs) + apart:
                found.append(f"GPU {index} {field}: ours {ours}, nvidia-smi {theirs}")
    return found


def known(fields: list[str]) -> list[str]:
    """Return the fields that this nvidia-smi supports."""
    help_text = subprocess.run(["nvidia-smi", "--help-query-gpu"], check=True, capture_output=True, text=True).stdout
    return [field for field in fields if f'"{field}"' in help_text]


def test_every_field_agrees_when_idle(exporter: Exporter) -> None:
    """nvidia-smi and the exporter have the same values; what is absent in one is absent in the other."""
    assert differences(exporter, known(list(FIELDS))) == []


@pytest.mark.usefixtures("load")
def test_every_field_agrees_under_load(exporter: Exporter) -> None:
    """The same while matrices are multiplied, and the activity shows."""
    time.sleep(5)  # clocks and temperatures settle; no condition says when
    assert differences(exporter, known(list(FIELDS))) == []
    page = Page(exporter.page().decode())
    assert max(page.by(ANY + "utilization_ratio", "gpu").values()) > 0.9
    active = page.by(ANY + "sm_active_ratio", "gpu")
    assert not active or max(active.values()) > 0.5


@pytest.mark.usefixtures("load")
def test_counters_are_those_of_the_card(exporter: Exporter) -> None:
    """Over some seconds of load, busy seconds are the time, and energy is the power times the time."""
    time.sleep(3)
    before, began = Page(exporter.page().decode()), time.monotonic()
    time.sleep(10)
    after, seconds = Page(exporter.page().decode()), time.monotonic() - began

    def moved(name: str) -> float:
        first, last = (page.by(ANY + name, "gpu") for page in (before, after))
        return max(last[gpu] - first[gpu] for gpu in last)

    assert moved("busy_seconds_total") == pytest.approx(seconds, rel=0.15)
    watts = max(after.by(ANY + "power_watts", "gpu").values())
    assert moved("energy_joules_total") == pytest.approx(watts * seconds, rel=0.25)


def test_identity_is_nvidia_smis(exporter: Exporter) -> None:
    """Index, UUID, name and driver are nvidia-smi's."""
    command = ["nvidia-smi", "--query-gpu=index,uuid,name,driver_version", "--format=csv,noheader"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    theirs = {tuple(word.strip() for word in line.split(",")) for line in text.splitlines()}
    page = Page(exporter.page().decode())
    assert set(page.by(ANY + "info", "gpu", "uuid", "name", "driver_version")) == theirs


def test_a_scrape_is_quick(exporter: Exporter) -> None:
    """Once everything is probed, a scrape of the GPUs takes less than a quarter of a second."""
    exporter.page()
    began = time.monotonic()
    exporter.page()
    assert time.monotonic() - began < 0.25
