"""Cost of a reading of eight GPUs, with the stand-in driver of the tests: NVML's own time is not included.

Run it as ``python -m benchmarks.gpu``. Figures with a target are marked PASS or MISS; the exit code is 0 either way.
CPU time is that of all threads of the process, with garbage collected as in the exporter, without rendering the page.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from modelhost_exporter.collector import Paths
from modelhost_exporter.collectors import gpu
from modelhost_exporter.gpu import sources
from modelhost_exporter.process.garbage import collect_less
from tests.gpu.driver import FULL, Driver, compiled, plug_in

_MAX_CPU_MS = 5.0
_GPUS = 8


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scrapes", type=int, default=40)
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between scrapes; from 0.1 on GPM is read")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        driver = Driver(compiled(Path(folder)), Path(folder) / "script")
        plug_in(driver, _GPUS, FULL, "NVIDIA H100 80GB HBM3")
        collector = gpu.GpuCollector(sources.all_of(Paths()), gpu.GpuOptions())
        collect_less()
        report(collector, driver, arguments.scrapes, arguments.pause)
        collector.close()


def report(collector: gpu.GpuCollector, driver: Driver, scrapes: int, pause: float) -> None:
    """Collect again and again, and print the medians."""
    for _ in range(3):
        list(collector.collect())
        time.sleep(pause)
    cpu, wall, calls = [], [], driver.all_calls()
    samples = 0
    for _ in range(scrapes):
        cpu_before, before = time.process_time(), time.perf_counter()
        families = list(collector.collect())
        cpu.append((time.process_time() - cpu_before) * 1e3)
        wall.append((time.perf_counter() - before) * 1e3)
        samples = sum(len(family.samples) for family in families)
        time.sleep(pause)
    median = statistics.median(cpu)
    print(f"GPUs                       {_GPUS}")
    print(f"samples                    {samples}")
    print(f"answers of the driver      {(driver.all_calls() - calls) / scrapes:.0f} a scrape, those between included")
    verdict = "PASS" if median <= _MAX_CPU_MS else "MISS"
    print(f"CPU per collect(), ms      {median:.2f}  {verdict} (at most {_MAX_CPU_MS:g})")
    print(f"time per collect(), ms     {statistics.median(wall):.2f}")


if __name__ == "__main__":
    main()
