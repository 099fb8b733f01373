"""Format values as Grafana does (units and value mappings), for the rendered pictures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_SMALL, _TINY = 0.1, 1e-4
_PLAIN = {
    "celsius": " °C",
    "rotrpm": " rpm",
}
_SIZES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""))
_BYTES = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))
_DURATIONS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "µs"))
_SCALES = {"s": _DURATIONS, "dtdurations": _DURATIONS, "bytes": _BYTES} | {
    unit: tuple((size, f"{prefix}{name}") for size, prefix in _SIZES)
    for unit, name in (("watt", "W"), ("hertz", "Hz"), ("joule", "J"), ("Bps", "B/s"), ("short", ""))
}


def text(value: float, field: Mapping[str, Any]) -> str:
    """Format a value by the mappings of a panel's field configuration, or else in its unit."""
    for mapping in field.get("mappings", ()):
        if mapping["type"] == "value" and f"{value:g}" in mapping["options"]:
            return str(mapping["options"][f"{value:g}"]["text"])
        if mapping["type"] == "special" and mapping["options"]["match"] == "nan" and math.isnan(value):
            return str(mapping["options"]["result"]["text"])
    if field.get("decimals") == 0 and math.isfinite(value):
        value = round(value)
    return in_unit(value, field.get("unit", "short"))


def in_unit(value: float, unit: str) -> str:
    """Format a number in one of Grafana's units, with three digits."""
    if not math.isfinite(value):
        return "–"
    if unit == "bool_yes_no":
        return "Yes" if value else "No"
    if unit == "percentunit":
        return f"{_three(value * 100)} %"
    if unit in _SCALES:
        return _scaled(value, _SCALES[unit])
    kind, _, suffix = unit.partition(":")
    return f"{_three(value)}{f' {suffix}' if kind == 'suffix' else _PLAIN.get(unit, '')}"


def _scaled(value: float, sizes: tuple[tuple[float, str], ...]) -> str:
    """Format a number in the largest unit not above it, or else in the smallest."""
    if not value:
        return f"0 {next(name for size, name in sizes if size == 1)}".rstrip()
    size, name = next(((size, name) for size, name in sizes if abs(value) >= size), sizes[-1])
    return f"{_three(value / size)} {name}".rstrip()


def _three(value: float) -> str:
    value = round(value, 9)
    if value == int(value):
        return f"{int(value)}"
    if abs(value) < _SMALL:
        return f"{value:.2g}" if abs(value) > _TINY else "0"
    return f"{value:.{max(0, 2 - int(math.log10(max(1, abs(value)))))}f}"
