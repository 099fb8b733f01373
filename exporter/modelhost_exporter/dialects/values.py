"""Parse request bodies and names of models."""

from __future__ import annotations

from modelhost_exporter.untrusted_json import parse_json, text


def request(body: bytes) -> dict[str, object] | None:
    """Return the JSON object of a request body; None for anything else."""
    try:
        parsed = parse_json(body)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def model_name(value: object) -> str | None:
    """Return a model's name, stripped and bounded; None for a value that is no name."""
    return text(value.strip()) or None if isinstance(value, str) else None
