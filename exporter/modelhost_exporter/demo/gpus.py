"""Simulated GPUs: activity, memory, power, temperature and links under the load of a model server."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.demo.specs import GIB

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from modelhost_exporter.demo.engines import SimulatedEngine
    from modelhost_exporter.demo.incidents import Kind, Situation
    from modelhost_exporter.demo.specs import CardSpec

_INLET_CELSIUS, _COOLING_SECONDS = 28.0, 45.0
_HOT_CELSIUS = 36.0  # additional temperature with blocked fans
_POWER_SECONDS = 6.0  # time constant of the reported mean
_REST_SECONDS = 20.0  # time until an idle card lowers its clocks
_CLOCK_BOUND = 0.3  # share of the work that depends on the clock
_CORRECTED = 1e-4  # corrected memory errors per step
_RESERVED_BYTES = int(0.6 * GIB)
_CONTEXT_BYTES = int(0.5 * GIB)  # memory of a process besides its model
_LINK_BYTES_PER_TOKEN = 1.1e6
LINKS = 18
_REMEMBERED_SAMPLES = 600
_XIDS: dict[Kind, int] = {
    "gpu_contained_error": 94,
    "gpu_lost": 79,
    "gpu_memory_errors": 48,
    "gpu_program_fault": 31,
}

SW_POWER_CAP, HW_SLOWDOWN, HW_THERMAL = 0x4, 0x8, 0x40


class Activity(NamedTuple):
    """Cumulative seconds of activity and MiB since the start, which performance monitoring samples."""

    at: float = 0.0
    sm: float = 0.0
    occupancy: float = 0.0
    tensor: float = 0.0
    dram: float = 0.0
    sent: float = 0.0
    received: float = 0.0

    def plus(self, *steps: float) -> Activity:
        """Return the sums with a step added."""
        return Activity(*(total + step for total, step in zip(self, steps, strict=True)))


class SimulatedCard:
    """A simulated GPU."""

    def __init__(self, spec: CardSpec, index: int, rng: random.Random, *, mig: bool) -> None:
        """Create an idle GPU; ``mig``: divided into MIG instances."""
        self.spec = spec
        self.index = index
        self.mig = mig
        self.uuid = f"GPU-{rng.getrandbits(32):08x}-de30-4000-8000-{index:012x}"
        self._rng = rng
        self.on_bus = True
        self.engines: list[SimulatedEngine] = []
        self.busy = self.dram = self._sm = 0.0
        self._unsteadiness = 0.0
        self.power, self.power_limit = spec.idle_watts, spec.power_limit_watts
        self.joules = rng.uniform(2e7, 4e7)
        self.celsius = 36.0
        self.sm_mhz, self._rested = spec.idle_mhz, _REST_SECONDS
        self.reasons = 0
        self.throttled = {SW_POWER_CAP: rng.uniform(0, 900), HW_THERMAL: rng.uniform(0, 30)}
        self.width = 16
        self.replays = 0.0
        self.corrected = rng.randrange(3)
        self.uncorrected = self.uncorrected_ever = 0
        self.remapped, self.remap_pending, self.remap_failed = 0, False, False
        self.nvlink_bytes = rng.uniform(1e12, 9e12)
        self.activity = Activity()
        self.samples: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED_SAMPLES)
        """Times in µs, and utilisation in percent."""

    @property
    def processes(self) -> Sequence[tuple[int, int]]:
        """Process IDs, each with its memory in bytes."""
        held = {
            engine.spec.pid + 10 + self.index: engine.spec.gpu_bytes or engine.resident_bytes(self.activity.at)
            for engine in self.engines
            if engine.up
        }
        return tuple((pid, size + _CONTEXT_BYTES) for pid, size in held.items() if size)

    @property
    def reserved_bytes(self) -> int:
        """Memory reserved by the driver, in bytes."""
        return _RESERVED_BYTES

    @property
    def used_bytes(self) -> int:
        """Memory of its processes, in bytes, those that show the desktop included."""
        return self.spec.desktop_bytes + sum(held for _, held in self.processes)

    @property
    def free_bytes(self) -> int:
        """Free memory, in bytes."""
        return self.spec.memory_bytes - self.reserved_bytes - self.used_bytes

    @property
    def slowness(self) -> float:
        """Factor by which work is slower than at full clock; work bound by memory is not."""
        return 1 + _CLOCK_BOUND * (self.spec.boost_mhz / self.sm_mhz - 1) if self.reasons else 1.0

    def reset_counters(self) -> None:
        """Set all counters to zero, those that a real GPU keeps for life included."""
        self.joules = self.replays = self.nvlink_bytes = 0.0
        self.throttled = dict.fromkeys(self.throttled, 0.0)
        self.corrected = self.uncorrected = self.uncorrected_ever = self.remapped = 0

    def go_to(self, at: float, situation: Situation) -> list[int]:
        """Advance to a time; return the XIDs reported in between."""
        seconds = min(at - self.activity.at, 60.0) if self.activity.at else 1.0
        xids = self._mishaps(situation)
        self._work(at, seconds)
        self._heat(seconds, situation)
        return xids

    def _mishaps(self, situation: Situation) -> list[int]:
        mine = str(self.index)
        begun = [incident.kind for incident in situation.begun if incident.target == mine]
        if "gpu_memory_errors" in begun:
            self.uncorrected += 1
            self.uncorrected_ever += 1
        if any(one.kind == "gpu_memory_errors" and one.target == mine for one in situation.ended):
            self.uncorrected = 0  # it was reset
            self.remapped += 1
        self.remap_pending = situation.has("gpu_memory_errors", self.index)
        self.remap_failed = situation.has("gpu_remap_failed", self.index)
        self.on_bus = not situation.has("gpu_lost", self.index)
        narrow = situation.has("gpu_link_narrow", self.index)
        self.width = 8 if narrow else 16
        self.replays += 3 * self._rng.random() if narrow else 0
        self.corrected += self._rng.random() < _CORRECTED
        return [_XIDS[kind] for kind in begun if kind in _XIDS]

    def _work(self, at: float, seconds: float) -> None:
        fill = busy = prefill = 0.0
        sent = received = 0.2
        for engine in self.engines if self.on_bus else ():
            if not engine.up:
                continue
            work, spec = engine.work, engine.spec
            running = min(engine.running(at), spec.capacity)
            fill = min(1.0, fill + running / spec.capacity)
            prefill = min(1.0, prefill + work.prefilled / work.seconds / self.spec.prefill_rate)
            busy = max(busy, 0.93 + 0.05 * self._rng.random() if running else 0.0)
            tokens = (work.prefilled + work.generated) / work.seconds
            self.nvlink_bytes += tokens * seconds * _LINK_BYTES_PER_TOKEN * (len(spec.gpus) > 1)
            sent += tokens * 0.002
            received += tokens * 0.003 + work.loading_bytes / work.seconds / len(spec.gpus) / 2**20
        busy = min(1.0, busy + prefill)
        self.busy = self._utilization(busy, fill)
        self.dram = min(0.95, busy * (0.45 + 0.5 * fill))
        sm = min(0.97, busy * (0.25 + 0.5 * fill + 0.4 * prefill))
        tensor = min(0.9, 0.08 * sm + 0.65 * prefill)
        steps = (sm, 0.55 * sm, tensor, self.dram, sent, received)
        self.activity = self.activity.plus(0, *(step * seconds for step in steps))._replace(at=at)
        self._sm = sm
        first = int(at - seconds) + 1
        self.samples += ((second * 1_000_000, round(100 * self.busy)) for second in range(first, int(at) + 1))

    def _utilization(self, busy: float, fill: float) -> float:
        """Return the reported share of time with work: with pauses between steps, fewer the fuller the batch."""
        self._unsteadiness += self._rng.gauss(0, 0.025) - 0.06 * self._unsteadiness
        return min(
            self._rng.uniform(0.955, 0.995), max(0.0, busy * (0.66 + 0.32 * math.sqrt(fill) + self._unsteadiness))
        )

    def _heat(self, seconds: float, situation: Situation) -> None:
        spec = self.spec
        wanted = spec.idle_watts + spec.busy_watts * self.busy + spec.active_watts * self._sm
        is_capped = situation.has("gpu_power_capped", self.index)
        self.power_limit = spec.capped_watts if is_capped else spec.power_limit_watts
        warmer = _HOT_CELSIUS if situation.has("gpu_hot", self.index) else 0.0
        reasons = SW_POWER_CAP if wanted > self.power_limit else 0
        if self.celsius >= spec.slowdown_celsius - 2:
            reasons |= HW_SLOWDOWN | HW_THERMAL
        self._rested = 0.0 if self.busy else self._rested + seconds
        megahertz = spec.boost_mhz if self._rested < _REST_SECONDS else spec.idle_mhz
        if reasons & HW_THERMAL:
            megahertz, wanted = spec.hot_mhz, wanted * 0.7
        elif reasons:
            megahertz = round(spec.boost_mhz * (self.power_limit / wanted) ** 0.5)
        self.reasons, self.sm_mhz = reasons, megahertz
        wanted = min(wanted, self.power_limit) * self._rng.uniform(0.985, 1.0)
        self.power = min(self.power_limit, self.power + (wanted - self.power) * min(1.0, seconds / _POWER_SECONDS))
        self.joules += self.power * seconds
        target = _INLET_CELSIUS + warmer + spec.celsius_per_watt * self.power + (60 if warmer and self.busy else 0)
        self.celsius += (min(target, spec.slowdown_celsius + 3) - self.celsius) * min(1.0, seconds / _COOLING_SECONDS)
        for reason in self.throttled:
            self.throttled[reason] += seconds if self.reasons & reason else 0
