"""Ollama's own embeddings, which never stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhost_exporter.dialects.contract import NOTHING, Call, Operation, Progress, Reply
from modelhost_exporter.dialects.ollama import read_final
from modelhost_exporter.dialects.prompt_only import PARSE_LIMIT
from modelhost_exporter.dialects.replies import watch
from modelhost_exporter.dialects.usage_builder import UsageBuilder
from modelhost_exporter.dialects.usage_objects import read_error
from modelhost_exporter.dialects.values import model_name, request

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "ollama_embeddings"
PATHS: Mapping[str, Operation] = {"/api/embed": "embeddings", "/api/embeddings": "embeddings"}


def call(body: bytes) -> Call | None:
    """Read a request: the model."""
    asked = request(body)
    return None if asked is None else Call(model_name(asked.get("model")), stream=False)


def reply(content_type: str) -> Reply:
    """Watch a reply."""
    return watch(content_type, OllamaEmbeddingsReader(), PARSE_LIMIT)


class OllamaEmbeddingsReader:
    """Reads bodies; /api/embeddings tells neither model nor counts."""

    def __init__(self) -> None:
        self.builder = UsageBuilder()

    def frame(self, frame: Mapping[str, object]) -> Progress:
        """Take the one line that there is."""
        self.builder.complete = True
        self.whole(frame)
        return NOTHING

    def whole(self, body: object) -> None:
        """Take a reply that is one document."""
        body = self.builder.mapping(body)
        self.builder.name(body.get("model"))
        read_final(self.builder, body)
        read_error(self.builder, body)
