"""The GPUs of the message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.live.host import percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from modelhost_exporter.live.family_lookup import Families
    from modelhost_exporter.live.message import GpuMessage

_SENSORS = ("gpu", "edge", "junction")
"""Sensors of the chip's temperature, the preferred one first."""
_GPU_LABELS = ("gpu", "uuid")


def gpus(families: Families) -> list[GpuMessage]:
    """Return all GPUs by index; those that do not respond have no numbers."""
    names = {key[:2]: key[2] for key in families.by("gpu_info", *_GPU_LABELS, "name")}
    usage = families.by("gpu_utilization_ratio", *_GPU_LABELS)
    memory_used = families.by("gpu_memory_used_bytes", *_GPU_LABELS)
    memory_total = families.by("gpu_memory_total_bytes", *_GPU_LABELS)
    power = families.by("gpu_power_watts", *_GPU_LABELS)
    power_limit = families.by("gpu_power_limit_watts", *_GPU_LABELS)
    temperatures = families.by("gpu_temperature_celsius", *_GPU_LABELS, "sensor")
    return [
        {
            "id": gpu[0],
            "uuid": gpu[1],
            "name": names.get(gpu),
            "usage": percent(usage.get(gpu), 1.0),
            "memoryUsed": memory_used.get(gpu),
            "memoryTotal": memory_total.get(gpu),
            "powerWatts": power.get(gpu),
            "powerLimitWatts": power_limit.get(gpu),
            "temperature": _chip_temperature({key[2]: value for key, value in temperatures.items() if key[:2] == gpu}),
        }
        for gpu in sorted(families.by("gpu_up", *_GPU_LABELS), key=_by_index)
    ]


def missing_gpus(families: Families) -> int | None:
    """Return the number of expected GPUs that are absent; None where it is not known."""
    present, expected = families.one("gpu_devices"), families.one("gpu_devices_expected")
    return None if present is None or expected is None else max(int(expected - present), 0)


def without_numbers(known: Iterable[GpuMessage]) -> list[GpuMessage]:
    """Return GPUs with their identity only, for as long as they cannot be read."""
    return [
        {
            "id": gpu["id"],
            "uuid": gpu["uuid"],
            "name": gpu["name"],
            "usage": None,
            "memoryUsed": None,
            "memoryTotal": None,
            "powerWatts": None,
            "powerLimitWatts": None,
            "temperature": None,
        }
        for gpu in known
    ]


def _chip_temperature(by_sensor: Mapping[str, float]) -> float | None:
    """Return the temperature of the preferred sensor, or of any; None without sensors."""
    chosen = next((sensor for sensor in _SENSORS if sensor in by_sensor), None)
    return by_sensor[chosen] if chosen else next(iter(by_sensor.values()), None)


def _by_index(gpu: tuple[str, ...]) -> tuple[int, str]:
    """Return the sort key of a GPU: 10 comes after 9."""
    return (int(gpu[0]) if gpu[0].isdigit() else len(gpu[0]), gpu[0])
