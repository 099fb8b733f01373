"""Ollama's native embeddings, which are never streamed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.dialects.contract import NOTHING, Call, Operation, Progress, Reply
from modelhost_exporter.dialects.ollama import error_object, read_final
from modelhost_exporter.dialects.prompt_only import PARSE_LIMIT
from modelhost_exporter.dialects.replies import watch
from modelhost_exporter.dialects.usage_builder import UsageBuilder
from modelhost_exporter.dialects.usage_objects import read_error
from modelhost_exporter.dialects.values import model_name, request

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NAME", "PATHS", "call", "error_object", "reply"]

NAME = "ollama_embeddings"
PATHS: Mapping[str, Operation] = {"/api/embed": "embeddings", "/api/embeddings": "embeddings"}


def call(body: bytes) -> Call | None:
    """Parse a request body: the model."""
    parsed = request(body)
    return None if parsed is None else Call(model_name(parsed.get("model")), stream=False)


def reply(content_type: str) -> Reply:
    """Return a parser of the response."""
    return watch(content_type, OllamaEmbeddingsReader(), PARSE_LIMIT)


class OllamaEmbeddingsReader:
    """Parser of bodies; those of /api/embeddings contain neither model nor counts."""

    def __init__(self) -> None:
        self.builder = UsageBuilder()

    def frame(self, frame: Mapping[str, object]) -> Progress:
        """Process the only line."""
        self.builder.complete = True
        self.whole(frame)
        return NOTHING

    def whole(self, body: object) -> None:
        """Process a response that is one JSON document."""
        body = self.builder.mapping(body)
        self.builder.name(body.get("model"))
        read_final(self.builder, body)
        read_error(self.builder, body)
