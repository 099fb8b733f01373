"""Durations as Go writes them: ``1s``, ``1m30.5s``, ``100ms``; a whole number is nanoseconds."""

from __future__ import annotations

import re

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+", re.ASCII)
_PART = re.compile(r"(\d+\.?\d*|\.\d+)([a-zµμ]+)", re.ASCII)
_NANOSECOND = 1e-9
_MAX_SECONDS = 2**63 * _NANOSECOND
_MAX_LENGTH = 64


def parse_go_duration(text: str) -> float:
    """Return seconds; raises ValueError for anything that Go does not accept."""
    if len(text) <= _MAX_LENGTH:
        if re.fullmatch(r"[-+]?0", text):
            return 0.0
        if _DURATION.fullmatch(text):
            seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
            if seconds < _MAX_SECONDS:
                return -seconds if text.startswith("-") else seconds
    raise ValueError(f"{text!r} is not a duration such as 1s or 500ms")


def from_nanoseconds(count: int) -> float:
    """Return seconds."""
    return count * _NANOSECOND
