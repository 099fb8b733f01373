"""Durations in the notation of Prometheus: ``5s``, ``500ms``, ``1m30s``."""

from __future__ import annotations

import re
from typing import NewType

Seconds = NewType("Seconds", float)
"""A duration in seconds; in the configuration a number or a Prometheus duration."""

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_MAX_SECONDS = 3650 * 86400.0  # waiting for more than 292 years raises OverflowError, which would fail a scrape
_DURATION = re.compile(r"(\d+d)?(\d+h)?(\d+m(?!s))?(\d+(?:\.\d+)?s)?(\d+ms)?")
_PART = re.compile(r"([\d.]+)([a-z]+)")


def parse_seconds(text: str | float) -> Seconds:
    """Parse ``1m30s``, ``500ms`` or a plain number of seconds; raises ValueError for anything else."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        seconds = text
    elif isinstance(text, str) and text and _DURATION.fullmatch(text):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    else:
        raise ValueError(f"{text!r} is not a duration such as 5s, 500ms or 1m30s")
    if not seconds > 0:
        raise ValueError(f"{text!r} is not a duration greater than zero")
    if seconds > _MAX_SECONDS:
        raise ValueError(f"{text!r} is longer than ten years")
    return Seconds(float(seconds))
