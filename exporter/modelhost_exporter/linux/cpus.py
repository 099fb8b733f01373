"""CPU times, events and frequencies from /proc/stat, /proc/cpuinfo and /sys/devices/system/cpu."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from modelhost_exporter.linux.kernel_files import (
    all_counts,
    count,
    each_line,
    read,
    read_if_possible,
    whole_number,
)
from modelhost_exporter.parallel_reads import ParallelReads

if TYPE_CHECKING:
    from pathlib import Path

_MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guest_nice")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_SLOW_SECONDS = 0.5
_WAIT_SECONDS = 0.1
_CPUINFO = re.compile(r"^(processor|cpu MHz)[ \t]*:[ \t]*(\S*)", re.MULTILINE)
_KILOHERTZ, _MEGAHERTZ = 1e3, 1e6


class Cpus:
    """The CPUs below the given /proc and /sys.

    Frequencies are read in threads of their own, since some come from firmware, which can take long.
    """

    def __init__(self, procfs: Path, sysfs: Path, wait_seconds: float = _WAIT_SECONDS) -> None:
        self._stat = procfs / "stat"
        self._cpuinfo = procfs / "cpuinfo"
        self._policies = sysfs / "devices/system/cpu/cpufreq"
        self._policy_reads = ParallelReads(_read_policy, _SLOW_SECONDS, wait_seconds)

    def stat(self) -> str:
        """Return the text of /proc/stat."""
        return read(self._stat)

    def hertz(self) -> dict[str, float]:
        """Return the frequency of each CPU, by its number.

        On x86 cpuinfo has one for each CPU; elsewhere CPUs with a common clock share a cpufreq policy.
        """
        if found := parse_cpuinfo(read_if_possible(self._cpuinfo) or ""):
            return found
        readings = self._policy_reads.measure(sorted(self._policies.glob("policy[0-9]*")))
        return {cpu: hertz for reading in readings.values() for cpu, hertz in (reading.value or {}).items()}


def parse_times(text: str) -> dict[str, dict[str, float]]:
    """Return seconds by CPU and mode from /proc/stat; older kernels have fewer modes."""
    lines = [line for line in text.split("\n") if line.startswith("cpu") and line[3:4].isdigit()]
    return dict(each_line("\n".join(lines), _parse_times, "stat"))


def _parse_times(line: str) -> tuple[str, dict[str, float]]:
    name, *fields = line.split()
    seconds = [ticks / _TICKS_PER_SECOND for ticks in all_counts(fields)]
    return str(count(name.removeprefix("cpu"))), dict(zip(_MODES, seconds, strict=False))


def parse_cpuinfo(text: str) -> dict[str, float]:
    """Return the frequency in hertz of each CPU that has ``cpu MHz`` in /proc/cpuinfo, by its number."""
    hertz: dict[str, float] = {}
    cpu = ""
    for name, value in _CPUINFO.findall(text):
        try:
            if name == "processor":
                cpu = str(count(value))
            elif cpu:
                hertz[cpu] = float(value) * _MEGAHERTZ
        except ValueError:
            cpu = ""
    return hertz


def _read_policy(folder: Path) -> dict[str, float]:
    """Return the frequency in hertz of a policy's online CPUs, by number."""
    text = read_if_possible(folder / "scaling_cur_freq") or read(folder / "cpuinfo_cur_freq").strip()
    hertz = whole_number(text) * _KILOHERTZ
    return dict.fromkeys(read(folder / "affected_cpus").split(), hertz)
