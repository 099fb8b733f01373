"""Bound the length of label values: Prometheus refuses a whole page for one that exceeds its limit."""

from __future__ import annotations

import hashlib

DEFAULT_MAX_BYTES = 200
"""The lowest ``label_value_length_limit`` in common use."""
MIN_BYTES, MAX_BYTES = 32, 4096
"""Limits of the limit."""

_HASH_DIGITS = 8
_MAX_BYTES_PER_CHARACTER = 4

_max_bytes = DEFAULT_MAX_BYTES


def set_max_bytes(max_bytes: int) -> None:
    """Set the limit of ``bounded``; at the start only, since series that exist keep their names."""
    global _max_bytes  # noqa: PLW0603 - one limit for the process, as every page has the same labels
    _max_bytes = max_bytes


def bounded(value: str) -> str:
    """Return a label value of at most the set number of bytes."""
    if len(value) * _MAX_BYTES_PER_CHARACTER <= _max_bytes:
        return value
    return shortened(value, _max_bytes)


def shortened(value: str, max_bytes: int) -> str:
    """Return text of at most so many bytes of UTF-8.

    Longer text is cut between two characters, and a hash of the whole tells apart what begins alike.
    """
    encoded = value.encode("utf-8", "replace")
    if len(encoded) <= max_bytes:
        return value
    mark = f"~{hashlib.sha256(encoded).hexdigest()[:_HASH_DIGITS]}"
    return encoded[: max_bytes - len(mark)].decode("utf-8", "ignore") + mark
