"""Sizes in bytes with binary units: ``512KiB``, ``1MiB``."""

from __future__ import annotations

from typing import NewType

Bytes = NewType("Bytes", int)
"""A size in bytes; in the configuration a whole number, with or without a binary unit."""

_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_MAX_DIGITS = 12


def parse_bytes(size: str | int) -> Bytes:
    """Parse ``1MiB`` or a plain number of bytes; raises ValueError for anything else."""
    if isinstance(size, str):
        number, unit = (size[:-3], _UNITS[size[-3:]]) if size[-3:] in _UNITS else (size, 1)
        digits = number.strip()
        if not (digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS):
            raise ValueError(f"{size!r} is not a size such as 1MiB, 512KiB or 65536")
        return Bytes(int(digits) * unit)
    if size < 0:
        raise ValueError(f"{size} is not a size: it must not be negative")
    return Bytes(size)
