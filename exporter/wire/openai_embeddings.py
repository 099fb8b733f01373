"""OpenAI embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.wire import inputs_only
from exporter.wire.replies import watch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.wire.contract import Operation, Reply

NAME = "openai_embeddings"
PATHS: Mapping[str, Operation] = {
    "/embeddings": "embeddings",
    "/embedding": "embeddings",  # llama.cpp
    "/embed": "embeddings",  # text-embeddings-inference
}

call = inputs_only.call


def reply(content_type: str) -> Reply:
    """Watch a reply."""
    return watch(content_type, inputs_only.InputsReader(), inputs_only.PARSE_LIMIT)
