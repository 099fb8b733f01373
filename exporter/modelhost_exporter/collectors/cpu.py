"""CPU time by mode, cores, frequency, context switches and interrupts."""

from __future__ import annotations

import contextlib
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

import psutil

from modelhost_exporter.collector import (
    Collector,
    CollectorContext,
    CollectorOptions,
    SimulatedHost,
    Unavailable,
    parts,
)
from modelhost_exporter.linux.cgroups import CPU, UNLIMITED, Container, ContainerUse
from modelhost_exporter.linux.cpus import Cpus, parse_times
from modelhost_exporter.linux.kernel_files import parse_counts, parse_ranges, read
from modelhost_exporter.metrics.families import counter, gauge
from modelhost_exporter.metrics.summed_counters import SummedCounter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

SECONDS = counter(
    "cpu_seconds",
    "Seconds that each logical CPU spent in each mode.",
    "cpu",
    "mode",
    note=(
        "Modes are disjoint and add up to all time: guest time is not part of user and nice. iowait is "
        "idle time with a disk request outstanding."
    ),
)
LOGICAL = gauge("cpu_logical_cores", "Logical CPUs that are online (hardware threads).")
PHYSICAL = gauge("cpu_physical_cores", "Physical cores that are online.")
FREQUENCY = gauge("cpu_frequency_hertz", "Current clock frequency of each CPU.", "cpu")
SWITCHES = counter("context_switches", "Context switches since boot.")
INTERRUPTS = counter("interrupts", "Hardware interrupts serviced since boot.")
HOST_CPUS = gauge(
    "host_cpu_cores",
    "Logical CPUs that programs here can use at most: of the machine, or the limit of the container that they share.",
    note="A limit counts if the exporter is not the first process of its container and `path.rootfs` is not set.",
)
HOST_SECONDS = counter(
    "host_cpu_seconds",
    "CPU seconds that programs could use, idle ones included, of the machine or within the limit of the container.",
    note="The rate of busy seconds divided by that of these is the CPU usage. Starts at 0.",
)
HOST_BUSY = counter(
    "host_cpu_busy_seconds",
    "CPU seconds with work, of the machine or of the container whose limit counts.",
    note="Neither idle, nor waiting for I/O, nor taken by the hypervisor (steal). Starts at 0.",
)
FAMILIES = (SECONDS, LOGICAL, PHYSICAL, FREQUENCY, SWITCHES, INTERRUPTS, HOST_CPUS, HOST_SECONDS, HOST_BUSY)

_MODE_NAMES = {"interrupt": "irq", "dpc": "softirq"}  # names on Windows
NO_WORK = ("idle", "iowait", "steal")
"""Modes in which a CPU does no work of this machine."""
_HOTPLUG_SECONDS = 3.0


class CpuCollector:
    """CPU times, core counts and frequencies: from ``kernel`` on Linux, else from psutil.

    iowait, idle and guest time can decrease a little between two reads (proc(5)), which Prometheus would treat as a
    counter reset and turn into a huge rate. A value that falls by less than three seconds is held until it has caught
    up; a larger fall means that the CPU was taken offline and starts again.
    """

    def __init__(
        self,
        source: Any = psutil,
        sysfs: Path | None = None,
        kernel: Cpus | None = None,
        container: Callable[[], ContainerUse] = lambda: UNLIMITED,
    ) -> None:
        self._source = source
        self._kernel = kernel
        self._online = sysfs / "devices/system/cpu/online" if sysfs else None
        self._policies = sysfs / "devices/system/cpu/cpufreq" if sysfs else None
        self._container = container
        self._total, self._busy = SummedCounter(), SummedCounter()
        self._cpus = 0
        self._present: tuple[str, ...] = ()
        self._cores: tuple[tuple[str, ...], int | None] = ((), None)
        self._highest: dict[tuple[str, str], float] = {}

    def collect(self) -> Iterator[Metric]:
        """Yield CPU seconds, core counts, frequencies and the kernel's event counters."""
        stat = cache(self._kernel.stat) if self._kernel else str
        yield from parts(
            lambda: self._seconds(stat),
            lambda: LOGICAL.of(self._source.cpu_count()),
            lambda: PHYSICAL.of(self._physical_cores()),
            lambda: FREQUENCY.by(((cpu,), hertz or None) for cpu, hertz in self._hertz()),
            lambda: self._events(stat),
        )

    def _seconds(self, stat: Callable[[], str]) -> Iterator[Metric]:
        if self._kernel is not None:
            by_cpu = list(parse_times(stat()).items())
        else:
            read_all = self._source.cpu_times(percpu=True)
            self._cpus = len(read_all)
            by_cpu = [(cpu, times._asdict()) for cpu, times in self._numbered(read_all)]
        seconds = {
            (cpu, mode): self._steady((cpu, mode), value)
            for cpu, times in by_cpu
            for mode, value in disjoint_modes(times).items()
        }
        self._present = tuple(dict.fromkeys(cpu for cpu, _ in seconds))
        yield from SECONDS.by(seconds.items())
        yield from self._of_host(seconds)

    def _of_host(self, seconds: Mapping[tuple[str, str], float]) -> Iterator[Metric]:
        """Yield the CPUs that can be used, their time and work: of the container where it has fewer than are online."""
        use, cpus = self._container(), float(len({cpu for cpu, _ in seconds}))
        total = [(f"{cpu} {mode}", value) for (cpu, mode), value in seconds.items()]
        busy = [(f"{cpu} {mode}", value) for (cpu, mode), value in seconds.items() if mode not in NO_WORK]
        if use.cpus is not None and use.cpu_seconds is not None and use.cpus < cpus:
            cpus = use.cpus
            total, busy = [("limit", use.limit_seconds)], [("container", use.cpu_seconds)]
        yield from HOST_CPUS.of(cpus)
        yield from HOST_SECONDS.of(self._total.add(total))
        yield from HOST_BUSY.of(self._busy.add(busy))

    def _physical_cores(self) -> int | None:
        """Return the number of cores; those of the same CPUs are counted once, which reads a file for each."""
        of, cores = self._cores
        if cores is None or of != self._present or not self._present:
            cores = self._source.cpu_count(logical=False)
            self._cores = self._present, cores
        return cores

    def _hertz(self) -> Iterator[tuple[str, float]]:
        if self._kernel is not None:
            yield from self._kernel.hertz().items()
            return
        yield from ((cpu, frequency.current * 1e6) for cpu, frequency in self._frequency_of_each(self._cpus))

    def _events(self, stat: Callable[[], str]) -> Iterator[Metric]:
        if self._kernel is not None:
            events = parse_counts(stat())
            yield from SWITCHES.of(events.get("ctxt"))
            yield from INTERRUPTS.of(events.get("intr"))
            return
        stats = self._source.cpu_stats()
        yield from SWITCHES.of(stats.ctx_switches)
        yield from INTERRUPTS.of(stats.interrupts)

    def _numbered(self, per_cpu: Sequence[Any]) -> Iterator[tuple[str, Any]]:
        """Yield each CPU's number and value. psutil skips CPUs that are offline, and returns no numbers."""
        numbers: Sequence[int] = range(len(per_cpu))
        if self._online is not None:
            with contextlib.suppress(OSError, ValueError, Unavailable):
                online = parse_ranges(read(self._online))
                numbers = online if len(online) == len(per_cpu) else numbers
        yield from zip(map(str, numbers), per_cpu, strict=True)

    def _steady(self, key: tuple[str, str], seconds: float) -> float:
        highest = self._highest.get(key, 0.0)
        if highest - _HOTPLUG_SECONDS < seconds < highest:
            return highest
        self._highest[key] = seconds
        return seconds

    def _frequency_of_each(self, cpus: int) -> Iterator[tuple[str, Any]]:
        """Yield each CPU's number and frequency.

        psutil has one entry for each cpufreq policy, which CPUs with a common clock share (a cluster of an Arm chip).
        """
        frequencies = self._frequencies()
        shared = self._cpus_by_policy() if len(frequencies) != cpus else []
        if len(shared) != len(frequencies):
            yield from self._numbered(frequencies)
            return
        for numbers, frequency in zip(shared, frequencies, strict=True):
            yield from ((cpu, frequency) for cpu in numbers)

    def _cpus_by_policy(self) -> list[list[str]]:
        """Return the online CPUs of each cpufreq policy, in psutil's order: by number of the policy."""
        folders = self._policies.glob("policy[0-9]*") if self._policies else ()
        ordered = sorted(folders, key=lambda folder: int(folder.name.removeprefix("policy")))
        try:
            return [read(folder / "affected_cpus").split() for folder in ordered]
        except (OSError, Unavailable):
            return []

    def _frequencies(self) -> list[Any]:
        """Return psutil's frequencies in MHz; [] where the platform does not report them."""
        read = getattr(self._source, "cpu_freq", None)
        try:
            return list(read(percpu=True) or []) if read else []
        except (NotImplementedError, OSError, RuntimeError):
            return []


def disjoint_modes(times: dict[str, float]) -> dict[str, float]:
    """Return seconds by mode, without guest time in user and nice, where the kernel counts it again."""
    modes = {_MODE_NAMES.get(mode, mode): seconds for mode, seconds in times.items()}
    for mode, guest in (("user", "guest"), ("nice", "guest_nice")):
        if guest in modes:
            modes[mode] = max(0.0, modes[mode] - modes[guest])
    return modes


def create(_options: CollectorOptions, context: CollectorContext) -> Collector:
    """Build the CPU collector."""
    kernel = Cpus(context.paths.procfs, context.paths.sysfs) if sys.platform == "linux" else None
    container = Container.measured_in(context.paths, CPU) if kernel else lambda: UNLIMITED
    return CpuCollector(sysfs=context.paths.sysfs, kernel=kernel, container=container)


def create_simulated(_options: CollectorOptions, _context: CollectorContext, host: SimulatedHost) -> Collector:
    """Build the collector for ``--demo``."""
    return CpuCollector(host.psutil)
