"""Parse JSON of servers and clients without trusting it: unexpected values become None or empty, and all is bounded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from modelhost_exporter.metrics.label_values import shortened

MAX_NUMBER = 1e100
"""Larger numbers are left out, so that sums and products of the others do not overflow."""
MAX_TEXT = 256
"""Characters of a text, which may become a label."""
MAX_OBJECTS = 1000
"""Objects of a list, such as models."""

_decoder = json.JSONDecoder()
_scan = vars(_decoder)["scan_once"]  # what decode() itself calls


def parse_json(data: bytes) -> object:
    """Parse JSON; ValueError for anything else, and for JSON that is nested too deeply.

    Bytes that are not UTF-8 (half a character from a byte-level token) are replaced: the rest is still of use.
    """
    try:
        decoded = data.decode("utf-8", "replace")
        try:  # without the search for white space around the document, which costs as much again
            parsed, end = _scan(decoded, 0)
        except StopIteration:
            end = -1
        return parsed if end == len(decoded) else _decoder.decode(decoded)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def text(value: object) -> str:
    """Return text, shortened beyond ``MAX_TEXT``, and '' for anything else; half a surrogate pair becomes ``?``."""
    if not isinstance(value, str):
        return ""
    if len(value) > MAX_TEXT:
        return shortened(value, MAX_TEXT)
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether a value is a number of JSON; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def number(value: object) -> float | None:
    """Return a number from 0 to ``MAX_NUMBER``; None for anything else."""
    return float(value) if is_number(value) and 0 <= value <= MAX_NUMBER else None


def count(value: object) -> float | None:
    """Return a number greater than zero; servers write 0 for unknown ones."""
    return number(value) or None


def child(value: object, *keys: str) -> Any:
    """Return the value along the keys of nested objects; None when there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def objects(value: object) -> Iterator[dict[str, Any]]:
    """Yield the objects among the first ``MAX_OBJECTS`` items of a list; nothing for anything else."""
    if isinstance(value, list):
        yield from (item for item in value[:MAX_OBJECTS] if isinstance(item, dict))


def texts(value: object) -> tuple[str, ...]:
    """Return the texts among the first ``MAX_OBJECTS`` items of a list that are not empty."""
    return tuple(text(item) for item in value[:MAX_OBJECTS] if text(item)) if isinstance(value, list) else ()
