"""The GPUs of the message."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from modelhost_exporter.live.host import percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from modelhost_exporter.live.family_lookup import Families
    from modelhost_exporter.live.message import GpuDetection, GpuMemoryUser, GpuMessage
    from modelhost_exporter.scraping.outcome import Outcome

MAX_MEMORY_USERS = 8
"""Names in the memory of a GPU: those with the most."""

_SENSORS = ("gpu", "edge", "junction")
"""Sensors of the chip's temperature, the preferred one first."""
_TEMPERATURE_LIMITS = ("gpu_max", "slowdown")
"""Limits at which a chip with one sensor slows down, the preferred one first."""
_SETTINGS = frozenset({"applications_clocks", "display_clocks"})
"""Reasons for low clocks that somebody has set: the GPU is not slowed down by them."""
_GPU_LABELS = ("gpu", "uuid")

_GpuKey = tuple[str, ...]


def gpus(families: Families) -> list[GpuMessage]:
    """Return all GPUs by index; those that do not respond have no numbers."""
    read = _Readings(
        {key[:2]: key[2] for key in families.by("gpu_info", *_GPU_LABELS, "name")},
        {name: families.by(f"gpu_{name}", *_GPU_LABELS) for name in _NUMBERS},
        _by_gpu(families, "gpu_temperature_celsius", "sensor"),
        _by_gpu(families, "gpu_temperature_limit_celsius", "type"),
        _by_gpu(families, "gpu_throttled", "reason"),
        _by_gpu(families, "gpu_process_memory_bytes", "process"),
        _by_gpu(families, "gpu_mig_process_memory_bytes", "process"),
    )
    up = families.by("gpu_up", *_GPU_LABELS)
    return [read.message(gpu, is_up=bool(up[gpu])) for gpu in sorted(up, key=_by_index)]


_NUMBERS = ("utilization_ratio", "memory_used_bytes", "memory_total_bytes", "power_watts", "power_limit_watts")


class _Readings(NamedTuple):
    """What the messages of all GPUs are computed from."""

    names: Mapping[_GpuKey, str]
    numbers: Mapping[str, Mapping[_GpuKey, float]]
    temperatures: Mapping[_GpuKey, Mapping[str, float]]
    temperature_limits: Mapping[_GpuKey, Mapping[str, float]]
    throttled: Mapping[_GpuKey, Mapping[str, float]]
    memory: Mapping[_GpuKey, Mapping[str, float]]
    mig_memory: Mapping[_GpuKey, Mapping[str, float]]

    def message(self, gpu: _GpuKey, *, is_up: bool) -> GpuMessage:
        """Return one GPU."""
        usage, used, total, power, power_limit = (self.numbers[name].get(gpu) for name in _NUMBERS)
        temperatures, limits = self.temperatures.get(gpu, {}), self.temperature_limits.get(gpu, {})
        sensor = next((name for name in (*_SENSORS, *temperatures) if name in temperatures), "")
        return {
            "id": gpu[0],
            "uuid": gpu[1],
            "name": self.names.get(gpu),
            "state": self._state(gpu, is_up=is_up),
            "usage": percent(usage, 1.0),
            "memoryUsed": used,
            "memoryTotal": total,
            "memoryUsers": _memory_users(self.memory.get(gpu) or self.mig_memory.get(gpu, {})),
            "powerWatts": power,
            "powerLimitWatts": power_limit,
            "temperature": temperatures.get(sensor),
            "temperatureLimit": _first(limits, (f"{sensor}_critical", *_TEMPERATURE_LIMITS)),
            "throttledBy": sorted(
                reason for reason, value in self.throttled.get(gpu, {}).items() if value and reason not in _SETTINGS
            ),
        }

    def _state(self, gpu: _GpuKey, *, is_up: bool) -> str:
        if is_up:
            return "ok" if any(gpu in values for values in self.numbers.values()) else "suspended"
        return "silent" if gpu in self.names else "lost"


def missing_gpus(families: Families) -> int | None:
    """Return the number of expected GPUs that are absent; None where it is not known."""
    present, expected = families.one("gpu_devices"), families.one("gpu_devices_expected")
    return None if present is None or expected is None else max(int(expected - present), 0)


def detection(families: Families, outcome: Outcome | None) -> GpuDetection:
    """Return what is known about the GPUs; ``outcome`` is that of the collector, None where it is off."""
    if families.one("gpu_restart_required"):
        return {"state": "replaced", "detail": None}
    if outcome is None:
        return {"state": "off", "detail": None}
    if outcome.state == "ok":
        return {"state": "found", "detail": None}
    if outcome.state != "unavailable":
        return {"state": "failed", "detail": outcome.detail}
    return {"state": "unknown" if outcome.undetermined else "none", "detail": outcome.detail}


def without_numbers(known: Iterable[GpuMessage]) -> list[GpuMessage]:
    """Return GPUs with their identity only, for as long as they cannot be read."""
    return [
        {
            "id": gpu["id"],
            "uuid": gpu["uuid"],
            "name": gpu["name"],
            "state": "silent",
            "usage": None,
            "memoryUsed": None,
            "memoryTotal": None,
            "memoryUsers": [],
            "powerWatts": None,
            "powerLimitWatts": None,
            "temperature": None,
            "temperatureLimit": None,
            "throttledBy": [],
        }
        for gpu in known
    ]


def _by_gpu(families: Families, name: str, label: str) -> dict[_GpuKey, dict[str, float]]:
    """Return the sums of a family by GPU, and by one more label."""
    found: dict[_GpuKey, dict[str, float]] = {}
    for key, value in families.by(name, *_GPU_LABELS, label).items():
        found.setdefault(key[:2], {})[key[2]] = value
    return found


def _memory_users(by_name: Mapping[str, float]) -> list[GpuMemoryUser]:
    """Return the names with memory, those with the most first."""
    most = sorted(by_name.items(), key=lambda item: (-item[1], item[0]))[:MAX_MEMORY_USERS]
    return [{"name": name, "bytes": int(held)} for name, held in most if held]


def _first(values: Mapping[str, float], names: Iterable[str]) -> float | None:
    """Return the value of the first name that has one; None where none has."""
    return next((values[name] for name in names if name in values), None)


def _by_index(gpu: tuple[str, ...]) -> tuple[int, str]:
    """Return the sort key of a GPU: 10 comes after 9."""
    return (int(gpu[0]) if gpu[0].isdigit() else len(gpu[0]), gpu[0])
