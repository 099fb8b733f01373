"""Parse untrusted JSON and single values."""

from __future__ import annotations

import json

MODEL_LENGTH = 256

_decoder = json.JSONDecoder()
_scan = vars(_decoder)["scan_once"]  # what decode() itself calls


def loads(data: bytes) -> object:
    """Parse JSON; ValueError for anything else.

    Bytes that are not UTF-8 (half a character from a byte-level token) are replaced: the frame still holds a token.
    """
    try:
        text = data.decode("utf-8", "replace")
        try:  # without the search for white space around the document, which costs as much again
            parsed, end = _scan(text, 0)
        except StopIteration:
            end = -1
        return parsed if end == len(text) else _decoder.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def request(body: bytes) -> dict[str, object] | None:
    """Return the JSON object of a request body; None for anything else."""
    try:
        parsed = loads(body)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def model_name(value: object) -> str | None:
    """Return a model's name, stripped and truncated; None for a value that is no name."""
    if not isinstance(value, str):
        return None
    return value.strip()[:MODEL_LENGTH].rstrip() or None
