"""The API dialects of model servers, parsed without I/O: one file with NAME and PATHS is one dialect.

The proxy finds the dialect of a path with ``find``, parses the request body with ``call`` and feeds the response to a
``Reply``. Nothing here raises, whatever a client or a server sends.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from modelhost_exporter.dialects import (
    anthropic_messages,
    generate,
    generate_stream,
    llamacpp,
    lmstudio,
    ollama,
    ollama_embeddings,
    openai_audio,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_images,
    openai_rerank,
    openai_responses,
)
from modelhost_exporter.dialects.contract import Call, Dialect, Operation, Progress, Reply, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "FORMATS",
    "Call",
    "Dialect",
    "Operation",
    "Progress",
    "Reply",
    "Usage",
    "error_object",
    "find",
    "find_target",
]

FORMATS: tuple[Dialect, ...] = (
    anthropic_messages,
    generate,
    generate_stream,
    llamacpp,
    lmstudio,
    ollama,
    ollama_embeddings,
    openai_audio,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_images,
    openai_rerank,
    openai_responses,
)

_BY_PATH: Mapping[str, tuple[Dialect, Operation]] = {
    path: (format_, operation) for format_ in FORMATS for path, operation in format_.PATHS.items()
}
_MAX_SEGMENTS = max(path.count("/") for path in _BY_PATH)


@lru_cache(maxsize=256)
def find(path: str) -> tuple[Dialect, Operation] | None:
    """Return the dialect and the operation of a request path (decoded, without query); None for any other path.

    A known path counts below any prefix; the longest one wins, so /api/chat is Ollama's and /api/v1/chat LM Studio's.
    """
    segments = [segment for segment in path.split("/") if segment]
    for start in range(max(0, len(segments) - _MAX_SEGMENTS), len(segments)):
        found = _BY_PATH.get("/" + "/".join(segments[start:]))
        if found is not None:
            return found
    return None


def find_target(target: bytes) -> tuple[Dialect, Operation] | None:
    """Return the same for a request target as it was received: a path or an absolute URL, with or without a query."""
    return _find_encoded(target.partition(b"?")[0])


@lru_cache(maxsize=256)
def _find_encoded(path: bytes) -> tuple[Dialect, Operation] | None:
    if not path.startswith(b"/"):
        path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
    return find(unquote_to_bytes(path).decode("utf-8", "replace"))


def error_object(dialect: str, message: str, outcome: str, code: int) -> object:
    """Return a proxy's own error as the JSON object that clients of a dialect expect; OpenAI's unless it has another.

    Sources: the error objects in the API references of OpenAI, Anthropic and Ollama.
    """
    write = next((getattr(format_, "error_object", None) for format_ in FORMATS if dialect == format_.NAME), None)
    if write is not None:
        return write(message, code)
    return {"error": {"message": message, "type": outcome, "param": None, "code": code}}
