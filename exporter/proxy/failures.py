"""What a client is told when the upstream cannot answer: an error body in the shape its dialect has for errors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Shape = Callable[[str, str, int], object]


def _openai(message: str, kind: str, code: int) -> object:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _anthropic(message: str, _kind: str, _code: int) -> object:
    return {"type": "error", "error": {"type": "api_error", "message": message}}


def _ollama(message: str, _kind: str, _code: int) -> object:
    return {"error": message}


_SHAPES: Mapping[str, Shape] = {"anthropic_messages": _anthropic, "ollama": _ollama, "ollama_embeddings": _ollama}


def error_body(wire: str | None, message: str, kind: str, code: int) -> tuple[bytes, str]:
    """Return body and content type; plain text where no dialect is known."""
    if wire is None:
        return f"{message}\n".encode(), "text/plain; charset=utf-8"
    shape = _SHAPES.get(wire, _openai)
    return json.dumps(shape(message, kind, code)).encode(), "application/json"
