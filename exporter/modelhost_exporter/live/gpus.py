"""The GPUs' part of the message; None for what a card does not report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelhost_exporter.live.host import percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from modelhost_exporter.live.family_lookup import Families

Gpu = dict[str, Any]

_SENSORS = ("gpu", "edge", "junction")
_CARD = ("gpu", "uuid")
_PLAIN = {
    "memoryUsed": "gpu_memory_used_bytes",
    "memoryTotal": "gpu_memory_total_bytes",
    "powerWatts": "gpu_power_watts",
    "powerLimitWatts": "gpu_power_limit_watts",
}


def gpus(families: Families) -> list[Gpu]:
    """Return every GPU, also those that do not answer: of these only who they are."""
    names = families.by("gpu_info", *_CARD, "name")
    name_of = {key[:2]: key[2] for key in names}
    usage = families.by("gpu_utilization_ratio", *_CARD)
    numbers = {field: families.by(family, *_CARD) for field, family in _PLAIN.items()}
    warmth = families.by("gpu_temperature_celsius", *_CARD, "sensor")
    return [
        {
            "id": card[0],
            "uuid": card[1],
            "name": name_of.get(card),
            "usage": percent(usage.get(card), 1.0),
            **{field: values.get(card) for field, values in numbers.items()},
            "temperature": _temperature({key[2]: value for key, value in warmth.items() if key[:2] == card}),
        }
        for card in sorted(families.by("gpu_up", *_CARD), key=_in_order)
    ]


def missing(families: Families) -> int | None:
    """Return the number of missing GPUs; None where it is unknown."""
    there, expected = families.one("gpu_devices"), families.one("gpu_devices_expected")
    return None if there is None or expected is None else max(int(expected - there), 0)


def silent(known: Iterable[Gpu]) -> list[Gpu]:
    """Return the GPUs of the last reading while they cannot be read."""
    return [
        {field: value if field in ("id", "uuid", "name") else None for field, value in gpu.items()} for gpu in known
    ]


def _temperature(by_sensor: Mapping[str, float]) -> float | None:
    """Return the chip's temperature, however its sensor is called."""
    chosen = next((sensor for sensor in _SENSORS if sensor in by_sensor), None)
    return by_sensor[chosen] if chosen else next(iter(by_sensor.values()), None)


def _in_order(card: tuple[str, ...]) -> tuple[int, str]:
    """Sort by index: 10 after 9."""
    return (int(card[0]) if card[0].isdigit() else len(card[0]), card[0])
