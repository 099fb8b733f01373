"""The dialects that model servers speak, watched without I/O: one file with NAME and PATHS is one dialect.

A transparent proxy asks ``find`` for the dialect of a path, lets it read the request (``call``), and feeds the reply's
bytes to a ``Reply``. Nothing here raises on what comes over the wire.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from modelhost_exporter.dialects import (
    anthropic_messages,
    llamacpp,
    lmstudio,
    ollama,
    ollama_embeddings,
    openai_audio,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_rerank,
    openai_responses,
)
from modelhost_exporter.dialects.contract import Call, Dialect, Operation, Progress, Reply, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FORMATS", "Call", "Dialect", "Operation", "Progress", "Reply", "Usage", "find"]

FORMATS: tuple[Dialect, ...] = (
    anthropic_messages,
    llamacpp,
    lmstudio,
    ollama,
    ollama_embeddings,
    openai_audio,
    openai_chat,
    openai_completions,
    openai_embeddings,
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
